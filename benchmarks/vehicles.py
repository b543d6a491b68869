"""Is there a vehicle? Photos of streets, their heat maps and quarters, beside Grad-CAM of VGG16
in Keras.
"""

from __future__ import annotations

from pathlib import Path

from common import DATA, Side, in_turn, ratio, section, sides, spread, times

ROWS = {
    "whole": "wordsight: classes and heat map of the whole photo",
    "closer": "wordsight: group *vehicle*, windows half as high looked through",
    "quarters": "wordsight: the same and the four quarters by themselves",
    "keras_whole": "Keras, VGG16, Grad-CAM: the whole photo",
    "keras_quarters": "Keras, VGG16, Grad-CAM: its four quarters",
}


@section(
    "28 photos of streets, classes and heat maps, beside Grad-CAM of VGG16 in Keras",
    ("tensorflow-cpu", "keras"),
    usual=False,
)
def vehicles(work: Path) -> list[str]:
    photos = DATA / "street" / "photos"
    opened = {
        "ours": lambda: Side("ours_recognize.py", photos, work / "ours", work=work),
        "keras": lambda: Side("keras_gradcam.py", photos, work / "keras", work=work),
    }
    with sides(**opened) as these:

        def seconds(name: str, **how: object) -> float:
            told = these[name](**how)
            assert told["photos"] == 28, told
            return told["seconds"] / told["photos"]

        took = in_turn(
            {
                "whole": lambda: seconds("ours", groups=[], quarters=False),
                "closer": lambda: seconds("ours", groups=["vehicle"], quarters=False),
                "quarters": lambda: seconds("ours", groups=["vehicle"], quarters=True),
                "keras_whole": lambda: seconds("keras", quarters=False),
                "keras_quarters": lambda: seconds("keras", quarters=True),
            },
            rounds=3,
        )
    return [
        f"Keras takes {times(ratio(took['keras_whole'], took['whole']))} times as long for "
        "the whole photo. Its four quarters alone take "
        f"{times(ratio(took['keras_quarters'], took['closer']))} times as long as wordsight "
        "with some forty windows looked through.",
        "",
        "| | ms a photo |",
        "|---|---|",
        *(
            f"| {said} | {spread([1000 * each for each in took[name]], 0)} |"
            for name, said in ROWS.items()
        ),
        "",
        "From files to drawn files; opening wordsight's network is included, loading "
        "Keras's is not. VGG16 has random weights (none can be had offline): "
        "they cost the same time, and its answers say nothing. It computes about twenty "
        "times as much at 224 × 224 pixels (31 GFLOP) as EfficientNet-Lite0 "
        "does at 320 × 320 (1.6), and Grad-CAM goes back through its dense layers.",
    ]

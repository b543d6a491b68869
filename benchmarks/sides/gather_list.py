"""Fetch the pictures of a list.   python gather_list.py ours|img2dataset LIST.csv TARGET COUNT
ROOT
"""

import os
import sys
import threading
import time
from pathlib import Path

import psutil
import turns


def ours() -> int:
    # the one local address that may be asked
    os.environ.update(WORDSIGHT_OFFLINE="", WORDSIGHT_OPENVERSE_URL=root)
    import wordsight

    wordsight.gather(["cat"], target, limit=int(count), sources=[f"urls:{listed}"])
    return len(list((Path(target) / "cat").iterdir()))


def img2dataset() -> int:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    from img2dataset import download

    download(
        url_list=listed,
        input_format="csv",
        url_col="url",
        caption_col="label",
        output_folder=target,
        output_format="files",
        resize_mode="no",
        disable_all_reencoding=True,
        processes_count=2,
        thread_count=64,
        number_sample_per_shard=int(count) // 2,
        enable_wandb=False,
    )
    return len(list(Path(target).glob("*/*.jpg")))


def watch() -> None:
    me = psutil.Process()
    while True:
        held = 0
        for process in (me, *me.children(recursive=True)):
            try:
                held += process.memory_full_info().pss  # what processes share counts once
            except psutil.Error:
                continue
        peak[0] = max(peak[0], held / 2**20)
        time.sleep(0.1)


if __name__ == "__main__":
    name, listed, target, count, root = sys.argv[1:]
    peak = [0.0]
    threading.Thread(target=watch, daemon=True).start()
    images = {"ours": ours, "img2dataset": img2dataset}[name]()
    turns.report(images=images, peak=peak[0])

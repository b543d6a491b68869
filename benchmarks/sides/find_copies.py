"""Find copies among the pictures of a folder.   python find_copies.py ours|hash|cnn FOLDER
WEIGHTS
"""

import sys
import time
from pathlib import Path

import turns


def ours():
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.cleaning.material import gather_material
    from wordsight.datasets.labelled import read_labelled

    embedder = Embedder(load_backbone())
    embedder.runtime  # noqa: B018  # opened before the clock starts, as the others import before it

    def find():
        material = gather_material(
            read_labelled(Path(folder).parent, min_classes=1), 1, embedder, None
        )
        names = [image.path.stem for image in material.images]
        return {(names[a], names[b]) for a, b in material.copies}

    return find


def by_hash():
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    return lambda: _pairs(
        hasher.find_duplicates(encoding_map=hasher.encode_images(folder), max_distance_threshold=10)
    )


def by_network():
    import timm
    from imagededup.methods import CNN
    from imagededup.utils.models import CustomModel

    network = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(
        input_size=(3, 224, 224),
        interpolation="bicubic",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        crop_pct=1.0,
    )
    network.name, network.transform = "lite0", transform
    finder = CNN(verbose=False, model_config=CustomModel("lite0", network, transform))
    return lambda: _pairs(
        finder.find_duplicates(
            encoding_map=finder.encode_images(folder), min_similarity_threshold=0.9
        )
    )


def _pairs(found):
    return {
        tuple(sorted((Path(a).stem, Path(b).stem))) for a, others in found.items() for b in others
    }


if __name__ == "__main__":
    method, folder, weights = sys.argv[1:]
    find = {"ours": ours, "hash": by_hash, "cnn": by_network}[method]()
    start = time.perf_counter()
    pairs = find()
    turns.report(seconds=time.perf_counter() - start, pairs=sorted(pairs))

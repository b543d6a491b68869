"""wordsight's recognize on a folder of photos, everything drawn.

python ours_recognize.py PHOTOS OUTPUT
"""

import sys

import turns

import wordsight

photos, output = sys.argv[1:]


def job(groups: list[str], quarters: bool) -> dict:
    return {
        "photos": len(wordsight.recognize(photos, groups=groups, quadrants=quarters, output=output))
    }


turns.serve(job)

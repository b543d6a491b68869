"""wordsight: predict a folder once with everything drawn, and say the peak memory.   python
grow.py MODEL PHOTOS OUTPUT
"""

import re
import sys
import time
from pathlib import Path

import turns

import wordsight

model = wordsight.load(sys.argv[1])
start = time.perf_counter()
results = model.predict(sys.argv[2], output=sys.argv[3])
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
turns.report(seconds=seconds, photos=len(results), peak=peak)

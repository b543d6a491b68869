"""Count the floating-point operations of a model's network, multiply and add as two, by input
size.   python flops.py MODEL 320x320 …
"""

import sys

import torch
import turns
from torch.utils.flop_counter import FlopCounterMode

import wordsight
from wordsight.backbones.networks.timm_models import build_module

module = build_module(wordsight.load(sys.argv[1]).backbone)
counted = {}
for size in sys.argv[2:]:
    height, width = map(int, size.split("x"))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module.forward_features(torch.zeros(1, 3, height, width))
    counted[size] = counter.get_total_flops()
turns.report(**counted)

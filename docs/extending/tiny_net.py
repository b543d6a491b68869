"""A backbone: any torch module with timm's methods, registered by timm's own decorator. Once trained, it can do what others can."""

import torch
from timm.models import build_model_with_cfg, register_model
from torch import nn

import wordsight


class TinyNet(nn.Module):
    """Three convolutions. The mean of their output is the embedding, so heat maps take a single pass."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.num_features, self.num_classes = 64, num_classes
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 5, 4, 2), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU()),
        )
        self.head = nn.Linear(64, num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) -> feature map (n, 64, height / 16, width / 16)."""
        return self.body(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Feature map -> logits (n, classes), or the embedding (n, 64)."""
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.head(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) -> logits (n, classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self):
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes):
        """Give the network a new last layer."""
        self.num_classes, self.head = num_classes, nn.Linear(64, num_classes)


@register_model
def tiny_net(pretrained=False, **options):
    """64 channels, for 128 × 128 pixels."""
    cfg = {
        "input_size": (3, 128, 128),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "interpolation": "bilinear",
        "classifier": "head",
        "architecture": "tiny_net",
    }
    cfg = options.pop("pretrained_cfg", None) or cfg
    return build_model_with_cfg(
        TinyNet,
        "tiny_net",
        pretrained,
        pretrained_cfg=cfg,
        kwargs_filter=("in_chans", "img_size"),
        **options,
    )


if __name__ == "__main__":
    model = wordsight.train(
        "data/pets",
        "models/tiny",
        recipe="scratch",
        backbone="tiny_net",
        settings=wordsight.TrainingSettings(epochs=5),
    )
    print(model.record.metrics)

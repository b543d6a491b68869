from .cache import EmbeddingCache as EmbeddingCache
from .registry import list_backbones as list_backbones, load_backbone as load_backbone

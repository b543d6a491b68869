"""Networks: weights, preprocessing, engines, embeddings and their cache. The only importer of
timm.
"""

"""What a model costs (parameters, FLOPs), what papers print beside it, and pictures of both.

May import ``backbones`` and what lies below them; ``tools/analysis_tools`` only calls it.
"""

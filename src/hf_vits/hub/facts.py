"""What model cards say about each architecture, in one place: a row per architecture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    title: str
    arxiv: str
    bibtex: str


@dataclass(frozen=True)
class Facts:
    """Attributes:
    title: name of the architecture, as a heading.
    summary: two or three sentences on what it is.
    papers: the paper first, then those of its descendants that the architecture covers.
    repositories: addresses of the originals' code.
    licence: the Hub's identifier of the originals' licence, of code and weights.
    tags: for the Hub's search, beside those that every card has.
    """

    title: str
    summary: str
    papers: tuple[Paper, ...]
    repositories: tuple[str, ...]
    licence: str
    tags: tuple[str, ...]


FACTS = {
    "vit": Facts(
        title="Vision Transformer (ViT)",
        summary=(
            "A plain transformer encoder over image patches. The image is cut into squares, each projected to a "
            "token; pre-norm self-attention layers mix them, and a class token, their mean or an attention-pooling "
            "head feeds a linear classifier."
        ),
        papers=(
            Paper(
                "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
                "2010.11929",
                """@inproceedings{dosovitskiy2021vit,
  title = {An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale},
  author = {Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and Weissenborn, Dirk and Zhai, Xiaohua and
            Unterthiner, Thomas and Dehghani, Mostafa and Minderer, Matthias and Heigold, Georg and Gelly, Sylvain and
            Uszkoreit, Jakob and Houlsby, Neil},
  booktitle = {International Conference on Learning Representations},
  year = {2021}
}""",
            ),
            Paper(
                "How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers",
                "2106.10270",
                """@article{steiner2022augreg,
  title = {How to train your {ViT}? Data, Augmentation, and Regularization in Vision Transformers},
  author = {Steiner, Andreas and Kolesnikov, Alexander and Zhai, Xiaohua and Wightman, Ross and Uszkoreit, Jakob and
            Beyer, Lucas},
  journal = {Transactions on Machine Learning Research},
  year = {2022}
}""",
            ),
            Paper(
                "Scaling Vision Transformers",
                "2106.04560",
                """@inproceedings{zhai2022scaling,
  title = {Scaling Vision Transformers},
  author = {Zhai, Xiaohua and Kolesnikov, Alexander and Houlsby, Neil and Beyer, Lucas},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}""",
            ),
        ),
        repositories=(
            "https://github.com/google-research/vision_transformer",
            "https://github.com/google-research/big_vision",
        ),
        licence="apache-2.0",
        tags=("vit",),
    ),
    "deit": Facts(
        title="Data-efficient Image Transformer (DeiT)",
        summary=(
            "A ViT trained on ImageNet-1k alone by strong augmentation and regularisation. Distilled models add a "
            "distillation token with a classifier of its own that learns from a teacher; at inference both heads are "
            "averaged. DeiT III adds layer scale and leaves the class token without a position; its parallel variants "
            "run two attention and two MLP branches side by side in each layer."
        ),
        papers=(
            Paper(
                "Training data-efficient image transformers & distillation through attention",
                "2012.12877",
                """@inproceedings{touvron2021deit,
  title = {Training data-efficient image transformers \\& distillation through attention},
  author = {Touvron, Hugo and Cord, Matthieu and Douze, Matthijs and Massa, Francisco and Sablayrolles, Alexandre and
            J{\\'e}gou, Herv{\\'e}},
  booktitle = {International Conference on Machine Learning},
  year = {2021}
}""",
            ),
            Paper(
                "DeiT III: Revenge of the ViT",
                "2204.07118",
                """@inproceedings{touvron2022deit3,
  title = {{DeiT III}: Revenge of the {ViT}},
  author = {Touvron, Hugo and Cord, Matthieu and J{\\'e}gou, Herv{\\'e}},
  booktitle = {European Conference on Computer Vision},
  year = {2022}
}""",
            ),
            Paper(
                "Three things everyone should know about Vision Transformers",
                "2203.09795",
                """@inproceedings{touvron2022three,
  title = {Three things everyone should know about Vision Transformers},
  author = {Touvron, Hugo and Cord, Matthieu and El-Nouby, Alaaeldin and Verbeek, Jakob and J{\\'e}gou, Herv{\\'e}},
  booktitle = {European Conference on Computer Vision},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/facebookresearch/deit",),
        licence="apache-2.0",
        tags=("deit", "distillation"),
    ),
    "cct": Facts(
        title="Compact Transformers (ViT-Lite, CVT, CCT)",
        summary=(
            "Small vision transformers that train from scratch on small data sets. ViT-Lite is a ViT with small "
            "patches; CVT replaces the class token by sequence pooling, a learned weighting of all tokens; CCT also "
            "replaces the patches by a convolutional tokenizer, and so needs little or no position embedding."
        ),
        papers=(
            Paper(
                "Escaping the Big Data Paradigm with Compact Transformers",
                "2104.05704",
                """@article{hassani2021cct,
  title = {Escaping the Big Data Paradigm with Compact Transformers},
  author = {Hassani, Ali and Walton, Steven and Shah, Nikhil and Abuduweili, Abulikemu and Li, Jiachen and
            Shi, Humphrey},
  journal = {arXiv preprint arXiv:2104.05704},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/SHI-Labs/Compact-Transformers",),
        licence="apache-2.0",
        tags=("cct", "compact-transformers"),
    ),
}

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
    repositories: addresses of the originals' code; none where the paper came without.
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
    "cvt": Facts(
        title="Convolutional vision Transformer (CvT)",
        summary=(
            "A vision transformer in three stages. Overlapping convolutions embed the tokens of each stage, and "
            "depth-wise convolutions stand before the projections to queries, keys and values, the latter two on a "
            "coarser map; no position embedding is left to need. A class token joins in the last stage."
        ),
        papers=(
            Paper(
                "CvT: Introducing Convolutions to Vision Transformers",
                "2103.15808",
                """@inproceedings{wu2021cvt,
  title = {CvT: Introducing Convolutions to Vision Transformers},
  author = {Wu, Haiping and Xiao, Bin and Codella, Noel and Liu, Mengchen and Dai, Xiyang and Yuan, Lu and Zhang, Lei},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  pages = {22--31},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/microsoft/CvT",),
        licence="mit",
        tags=("cvt",),
    ),
    "regionvit": Facts(
        title="Regional-to-Local vision transformer (RegionViT)",
        summary=(
            "A vision transformer in four stages with two kinds of tokens. Regional tokens of large patches attend to "
            "one another over the whole image; then each attends together with the local tokens of its window, and so "
            "brings them what the others know."
        ),
        papers=(
            Paper(
                "RegionViT: Regional-to-Local Attention for Vision Transformers",
                "2106.02689",
                """@inproceedings{chen2022regionvit,
  title = {{RegionViT}: Regional-to-Local Attention for Vision Transformers},
  author = {Chen, Chun-Fu and Panda, Rameswar and Fan, Quanfu},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/IBM/RegionViT",),
        licence="apache-2.0",
        tags=("regionvit",),
    ),
    "locally_sag": Facts(
        title="Locally Shifted Attention with Early Global Integration (Locally-SAG)",
        summary=(
            "A vision transformer in three or four stages that looks at the image and at copies of it that are "
            "shifted by a few pixels. In the first layer each place attends to itself in all copies; all other layers "
            "are global from the first stage on."
        ),
        papers=(
            Paper(
                "Locally Shifted Attention With Early Global Integration",
                "2112.05080",
                """@article{sheynin2021locally,
  title = {Locally Shifted Attention With Early Global Integration},
  author = {Sheynin, Shelly and Benaim, Sagie and Polyak, Adam and Wolf, Lior},
  journal = {arXiv preprint arXiv:2112.05080},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/shellysheynin/Locally-SAG-Transformer",),
        licence="mit",
        tags=("locally-sag",),
    ),
    "qna": Facts(
        title="QnA-ViT: Learned Queries for Efficient Local Attention",
        summary=(
            "A vision transformer in four stages. In most layers a few learned queries, the same at every place of "
            "the map, attend to the window around it; since they are the same everywhere, two depth-wise convolutions "
            "compute this, without cutting windows out. Later stages begin with self-attention inside windows."
        ),
        papers=(
            Paper(
                "Learned Queries for Efficient Local Attention",
                "2112.11435",
                """@inproceedings{arar2022qna,
  title = {Learned Queries for Efficient Local Attention},
  author = {Arar, Moab and Shamir, Ariel and Bermano, Amit H.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/moabarar/qna",),
        licence="mit",
        tags=("qna",),
    ),
    "coat": Facts(
        title="Co-scale conv-attentional image Transformer (CoaT)",
        summary=(
            "A vision transformer on four scales, each with a class token of its own. Its attention is factorised, "
            "linear in the number of tokens, with relative positions from depth-wise convolutions of the values. "
            "CoaT-Lite runs one scale after the other; CoaT adds parallel layers, in which the scales but the first "
            "exchange what their attentions found."
        ),
        papers=(
            Paper(
                "Co-Scale Conv-Attentional Image Transformers",
                "2104.06399",
                """@inproceedings{xu2021coat,
  title = {Co-Scale Conv-Attentional Image Transformers},
  author = {Xu, Weijian and Xu, Yifan and Chang, Tyler and Tu, Zhuowen},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  pages = {9981--9990},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/mlpc-ucsd/CoaT",),
        licence="apache-2.0",
        tags=("coat",),
    ),
    "levit": Facts(
        title="LeViT",
        summary=(
            "A hybrid of convolutional network and vision transformer, made for fast inference. Four strided "
            "convolutions make the tokens; attention in three stages, on ever smaller grids, adds a learned bias per "
            "distance in place of position embeddings. All norms are batch norms, which fold into the linear layers "
            "for inference. Two heads, one taught by the labels and one by a teacher, are averaged."
        ),
        papers=(
            Paper(
                "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference",
                "2104.01136",
                """@inproceedings{graham2021levit,
  title = {{LeViT}: a Vision Transformer in {ConvNet}'s Clothing for Faster Inference},
  author = {Graham, Benjamin and El-Nouby, Alaaeldin and Touvron, Hugo and Stock, Pierre and Joulin, Armand and
            J{\\'e}gou, Herv{\\'e} and Douze, Matthijs},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  pages = {12259--12269},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/facebookresearch/LeViT",),
        licence="apache-2.0",
        tags=("levit", "distillation"),
    ),
    "lg_transformer": Facts(
        title="Local-to-Global Transformer (LG-Transformer)",
        summary=(
            "A vision transformer in four stages whose layers attend inside windows on maps of several granularities "
            "at once: on the stage's own map a window is local, on the coarsest it covers the whole image. The paths "
            "are added up; the rest is Swin's."
        ),
        papers=(
            Paper(
                "Local-to-Global Self-Attention in Vision Transformers",
                "2107.04735",
                """@article{li2021local,
  title = {Local-to-Global Self-Attention in Vision Transformers},
  author = {Li, Jinpeng and Yan, Yichao and Liao, Shengcai and Yang, Xiaokang and Shao, Ling},
  journal = {arXiv preprint arXiv:2107.04735},
  year = {2021}
}""",
            ),
        ),
        repositories=(),
        licence="apache-2.0",
        tags=("lg-transformer",),
    ),
    "cmt": Facts(
        title="CMT",
        summary=(
            "A hybrid of convolutional network and vision transformer in four stages. Each layer begins with a "
            "depth-wise convolution, attends to a map that another one has reduced, with a learned bias for every "
            "pair of query and key, and ends in an inverted residual of convolutions in place of an MLP."
        ),
        papers=(
            Paper(
                "CMT: Convolutional Neural Networks Meet Vision Transformers",
                "2107.06263",
                """@inproceedings{guo2022cmt,
  title = {{CMT}: Convolutional Neural Networks Meet Vision Transformers},
  author = {Guo, Jianyuan and Han, Kai and Wu, Han and Tang, Yehui and Chen, Xinghao and Wang, Yunhe and Xu, Chang},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {12175--12185},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/ggjy/CMT.pytorch",),
        licence="mit",
        tags=("cmt",),
    ),
    "localvit": Facts(
        title="LocalViT: locality in vision transformers",
        summary=(
            "A local feed-forward for the layers of any vision transformer: tokens return to their grid, and the MLP "
            "becomes an inverted residual, two pointwise convolutions around a 3x3 depth-wise one, with batch norms, "
            "h-swish and squeeze-and-excitation. Its hosts are DeiT, PVT, TNT, T2T-ViT and Swin."
        ),
        papers=(
            Paper(
                "LocalViT: Bringing Locality to Vision Transformers",
                "2104.05707",
                """@inproceedings{li2023localvit,
  title = {{LocalViT}: Analyzing Locality in Vision Transformers},
  author = {Li, Yawei and Zhang, Kai and Cao, Jiezhang and Timofte, Radu and Magno, Michele and Benini, Luca and
            Van Gool, Luc},
  booktitle = {IEEE/RSJ International Conference on Intelligent Robots and Systems},
  pages = {9598--9605},
  year = {2023}
}""",
            ),
        ),
        repositories=("https://github.com/ofsoundof/LocalViT",),
        licence="mit",
        tags=("localvit",),
    ),
    "pvt": Facts(
        title="Pyramid Vision Transformer (PVT)",
        summary=(
            "A vision transformer in four stages, each on a map of half the size. Attention stays affordable on the "
            "large maps because keys and values come from patches of them; a class token joins in the last stage."
        ),
        papers=(
            Paper(
                "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions",
                "2102.12122",
                """@inproceedings{wang2021pvt,
  title = {Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions},
  author = {Wang, Wenhai and Xie, Enze and Li, Xiang and Fan, Deng-Ping and Song, Kaitao and Liang, Ding and
            Lu, Tong and Luo, Ping and Shao, Ling},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  pages = {568--578},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/whai362/PVT",),
        licence="apache-2.0",
        tags=("pvt",),
    ),
    "swin": Facts(
        title="Swin Transformer",
        summary=(
            "A vision transformer in four stages whose tokens attend to one another inside small windows, with a "
            "learned bias for their relative positions. Every second layer shifts the windows by half their size, so "
            "that neighbouring windows meet."
        ),
        papers=(
            Paper(
                "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
                "2103.14030",
                """@inproceedings{liu2021swin,
  title = {Swin Transformer: Hierarchical Vision Transformer using Shifted Windows},
  author = {Liu, Ze and Lin, Yutong and Cao, Yue and Hu, Han and Wei, Yixuan and Zhang, Zheng and Lin, Stephen and
            Guo, Baining},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  pages = {10012--10022},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/microsoft/Swin-Transformer",),
        licence="mit",
        tags=("swin",),
    ),
    "tnt": Facts(
        title="Transformer in Transformer (TNT)",
        summary=(
            "A vision transformer on patches with a small transformer inside each: an inner one relates the pixels of "
            "a patch, and in every layer what it found is projected and added to the token of that patch in the outer "
            "one."
        ),
        papers=(
            Paper(
                "Transformer in Transformer",
                "2103.00112",
                """@inproceedings{han2021tnt,
  title = {Transformer in Transformer},
  author = {Han, Kai and Xiao, An and Wu, Enhua and Guo, Jianyuan and Xu, Chunjing and Wang, Yunhe},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {34},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/huggingface/pytorch-image-models",),
        licence="apache-2.0",
        tags=("tnt",),
    ),
    "t2t": Facts(
        title="Tokens-to-Token ViT (T2T-ViT)",
        summary=(
            "A narrow, deep ViT whose tokens are made step by step: three soft splits cut overlapping patches, and a "
            "small transformer or performer between them relates the tokens before they are cut again. Its positions "
            "are a fixed sinusoid."
        ),
        papers=(
            Paper(
                "Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet",
                "2101.11986",
                """@inproceedings{yuan2021t2t,
  title = {Tokens-to-Token {ViT}: Training Vision Transformers from Scratch on {ImageNet}},
  author = {Yuan, Li and Chen, Yunpeng and Wang, Tao and Yu, Weihao and Shi, Yujun and Jiang, Zi-Hang and
            Tay, Francis E. H. and Feng, Jiashi and Yan, Shuicheng},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  pages = {558--567},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/yitu-opensource/T2T-ViT",),
        licence="bsd-3-clause-clear",
        tags=("t2t-vit",),
    ),
    "mvit": Facts(
        title="Multiscale Vision Transformer (MViT, MViTv2)",
        summary=(
            "A vision transformer in four stages, for images and for clips. Attention pools: depth-wise convolutions "
            "reduce the maps of queries, keys and values before they meet, which makes each stage's map half as high "
            "and wide as the one before, and channels twice as many. MViTv2 adds relative positions, decomposed along "
            "the axes, and adds each pooled query to what it attended to."
        ),
        papers=(
            Paper(
                "MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
                "2112.01526",
                """@inproceedings{li2022mvitv2,
  title = {{MViTv2}: Improved Multiscale Vision Transformers for Classification and Detection},
  author = {Li, Yanghao and Wu, Chao-Yuan and Fan, Haoqi and Mangalam, Karttikeya and Xiong, Bo and Malik, Jitendra and
            Feichtenhofer, Christoph},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}""",
            ),
            Paper(
                "Multiscale Vision Transformers",
                "2104.11227",
                """@inproceedings{fan2021mvit,
  title = {Multiscale Vision Transformers},
  author = {Fan, Haoqi and Xiong, Bo and Mangalam, Karttikeya and Li, Yanghao and Yan, Zhicheng and Malik, Jitendra and
            Feichtenhofer, Christoph},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year = {2021}
}""",
            ),
        ),
        repositories=(
            "https://github.com/facebookresearch/mvit",
            "https://github.com/facebookresearch/SlowFast",
            "https://github.com/facebookresearch/detectron2",
        ),
        licence="apache-2.0",
        tags=("mvit", "mvitv2"),
    ),
    "vivit": Facts(
        title="Video Vision Transformer (ViViT)",
        summary=(
            "A vision transformer for clips. Small blocks of space and time, tubelets, become tokens. They attend to "
            "one another all at once, or, to cost less, within frames and across them in turn: by one encoder after "
            "the other, by two attentions in each layer, or by two kinds of heads."
        ),
        papers=(
            Paper(
                "ViViT: A Video Vision Transformer",
                "2103.15691",
                """@inproceedings{arnab2021vivit,
  title = {{ViViT}: A Video Vision Transformer},
  author = {Arnab, Anurag and Dehghani, Mostafa and Heigold, Georg and Sun, Chen and Lu{\\v{c}}i{\\'c}, Mario and
            Schmid, Cordelia},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/google-research/scenic",),
        licence="apache-2.0",
        tags=("vivit", "video"),
    ),
    "audiomer": Facts(
        title="Audiomer",
        summary=(
            "A keyword spotter that hears the raw waveform. Every layer halves the length by a strided depth-wise "
            "convolution, whose frames attend, with the Performer's random-feature attention, to a more strongly "
            "strided copy of the same input; a strided convolution is the residual branch. Cost is linear in the "
            "length, and there are no positions, so clips longer or shorter than those of training run too."
        ),
        papers=(
            Paper(
                "Audiomer: A Convolutional Transformer For Keyword Spotting",
                "2109.10252",
                """@article{sahu2021audiomer,
  title = {Audiomer: A Convolutional Transformer For Keyword Spotting},
  author = {Sahu, Surya Kant and Mitheran, Sai and Kamdar, Juhi and Gandhi, Meet},
  journal = {arXiv preprint arXiv:2109.10252},
  year = {2021}
}""",
            ),
            Paper(
                "Rethinking Attention with Performers",
                "2009.14794",
                """@inproceedings{choromanski2021performer,
  title = {Rethinking Attention with {Performers}},
  author = {Choromanski, Krzysztof and Likhosherstov, Valerii and Dohan, David and Song, Xingyou and Gane, Andreea and
            Sarlos, Tamas and Hawkins, Peter and Davis, Jared and Mohiuddin, Afroz and Kaiser, Lukasz and
            Belanger, David and Colwell, Lucy and Weller, Adrian},
  booktitle = {International Conference on Learning Representations},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/The-Learning-Machines/Audiomer-PyTorch",),
        licence="unknown",
        tags=("audiomer", "keyword-spotting"),
    ),
    "septr": Facts(
        title="Separable Transformer (SepTr)",
        summary=(
            "A transformer over spectrograms in which every bin of every frame is a token. A layer is two "
            "transformers one after the other: along frequency inside each frame, then along time inside each bin, "
            "each with a class token per line that is averaged over the lines. The number of parameters grows "
            "linearly with the size of the spectrogram."
        ),
        papers=(
            Paper(
                "SepTr: Separable Transformer for Audio Spectrogram Processing",
                "2203.09581",
                """@inproceedings{ristea2022septr,
  title = {{SepTr}: Separable Transformer for Audio Spectrogram Processing},
  author = {Ristea, Nicolae-Catalin and Ionescu, Radu Tudor and Khan, Fahad Shahbaz},
  booktitle = {Proceedings of INTERSPEECH},
  pages = {4103--4107},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/ristea/septr",),
        licence="cc-by-sa-4.0",
        tags=("septr",),
    ),
    "branchformer": Facts(
        title="Branchformer",
        summary=(
            "A speech encoder whose every layer reads the same frames twice, side by side: self-attention with "
            "relative positions sees the whole recording, an MLP gated by a convolution along time its surroundings. "
            "Both are merged, by concatenation or by weights that tell how much each layer leans on either."
        ),
        papers=(
            Paper(
                "Branchformer: Parallel MLP-Attention Architectures to Capture Local and Global Context for Speech "
                "Recognition and Understanding",
                "2207.02971",
                """@inproceedings{peng2022branchformer,
  title = {Branchformer: Parallel {MLP}-Attention Architectures to Capture Local and Global Context for Speech
           Recognition and Understanding},
  author = {Peng, Yifan and Dalmia, Siddharth and Lane, Ian and Watanabe, Shinji},
  booktitle = {Proceedings of the 39th International Conference on Machine Learning},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/espnet/espnet",),
        licence="apache-2.0",
        tags=("branchformer", "espnet"),
    ),
    "mae": Facts(
        title="Masked Autoencoder (MAE)",
        summary=(
            "A ViT that learns without labels: it sees a quarter of the patches of an image, and a small decoder "
            "paints the others from what it makes of them. The decoder is left out afterwards."
        ),
        papers=(
            Paper(
                "Masked Autoencoders Are Scalable Vision Learners",
                "2111.06377",
                """@inproceedings{he2022mae,
  title = {Masked Autoencoders Are Scalable Vision Learners},
  author = {He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r, Piotr and Girshick, Ross},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/facebookresearch/mae",),
        licence="cc-by-nc-4.0",
        tags=("mae", "self-supervised"),
    ),
    "dino": Facts(
        title="DINO",
        summary=(
            "Self-distillation without labels: from every crop of an image a student predicts what its teacher, a "
            "moving average of itself, sees in the large ones. The attention of its ViTs follows objects."
        ),
        papers=(
            Paper(
                "Emerging Properties in Self-Supervised Vision Transformers",
                "2104.14294",
                """@inproceedings{caron2021dino,
  title = {Emerging Properties in Self-Supervised Vision Transformers},
  author = {Caron, Mathilde and Touvron, Hugo and Misra, Ishan and J{\\'e}gou, Herv{\\'e} and Mairal, Julien and
            Bojanowski, Piotr and Joulin, Armand},
  booktitle = {IEEE/CVF International Conference on Computer Vision},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/facebookresearch/dino",),
        licence="apache-2.0",
        tags=("dino", "self-supervised"),
    ),
    "ibot": Facts(
        title="iBOT",
        summary=(
            "DINO and masked image modelling at once: the student also predicts, for the patches that are masked from "
            "it, what its teacher sees there."
        ),
        papers=(
            Paper(
                "iBOT: Image BERT Pre-Training with Online Tokenizer",
                "2111.07832",
                """@inproceedings{zhou2022ibot,
  title = {{iBOT}: Image {BERT} Pre-Training with Online Tokenizer},
  author = {Zhou, Jinghao and Wei, Chen and Wang, Huiyu and Shen, Wei and Xie, Cihang and Yuille, Alan and Kong, Tao},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/bytedance/ibot",),
        licence="apache-2.0",
        tags=("ibot", "self-supervised"),
    ),
    "attmask": Facts(
        title="AttMask",
        summary=(
            "iBOT whose masks are not drawn blindly: what the teacher's class token attends to most is hidden from "
            "the student, all of it, all but a few hints, or the least attended instead."
        ),
        papers=(
            Paper(
                "What to Hide from Your Students: Attention-Guided Masked Image Modeling",
                "2203.12719",
                """@inproceedings{kakogeorgiou2022attmask,
  title = {What to Hide from Your Students: Attention-Guided Masked Image Modeling},
  author = {Kakogeorgiou, Ioannis and Gidaris, Spyros and Psomas, Bill and Avrithis, Yannis and Bursuc, Andrei and
            Karantzalos, Konstantinos and Komodakis, Nikos},
  booktitle = {European Conference on Computer Vision},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/gkakogeorgiou/attmask",),
        licence="apache-2.0",
        tags=("attmask", "ibot", "self-supervised"),
    ),
    "esvit": Facts(
        title="EsViT",
        summary=(
            "DINO over transformers in stages, and a second task that gives back what these lose, the sense of which "
            "parts of two views correspond: for every region of a view the student predicts what its teacher says of "
            "the region that looks most alike in another."
        ),
        papers=(
            Paper(
                "Efficient Self-supervised Vision Transformers for Representation Learning",
                "2106.09785",
                """@inproceedings{li2022esvit,
  title = {Efficient Self-supervised Vision Transformers for Representation Learning},
  author = {Li, Chunyuan and Yang, Jianwei and Zhang, Pengchuan and Gao, Mei and Xiao, Bin and Dai, Xiyang and Yuan, Lu
            and Gao, Jianfeng},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
            ),
        ),
        repositories=("https://github.com/microsoft/esvit",),
        licence="mit",
        tags=("esvit", "self-supervised"),
    ),
    "sit": Facts(
        title="Self-supervised Vision Transformer (SiT)",
        summary=(
            "A ViT that learns without labels from images with blocks painted over: it restores what was hidden, and "
            "finds the other view of the image among those of a batch. In its first forms it also tells by how many "
            "quarters a view was turned."
        ),
        papers=(
            Paper(
                "SiT: Self-supervised vIsion Transformer",
                "2104.03602",
                """@article{atito2021sit,
  title = {{SiT}: Self-supervised {vIsion} {Transformer}},
  author = {Atito, Sara and Awais, Muhammad and Kittler, Josef},
  journal = {arXiv preprint arXiv:2104.03602},
  year = {2021}
}""",
            ),
        ),
        repositories=("https://github.com/Sara-Ahmed/SiT",),
        licence="gpl",
        tags=("sit", "self-supervised"),
    ),
}

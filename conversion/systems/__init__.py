"""One module per original system: its published variants and the mapping of its checkpoint keys to ours.

The module's name is the system's name, and every module of this folder is a system. It provides:

    VARIANTS     {published name: configuration fields}
    model_class(fields)               the class that the fields of a variant configure
    prepare(tensors, fields)          original tensors under the one spelling of keys that `transforms` maps
    infer(tensors, fields)            configuration fields that follow from the tensors (sizes, classes, ...)
    transforms(config)                list of WeightRenaming and WeightConverter to our keys
    processor(variant, config)        fields of the image processor, or another processor; None for a text model

and where they apply:

    infer_original(tensors)           such fields from the tensors as they are in the file, where `prepare` loses them
    original_fields(recipe, overrides)    configuration fields from the file that the original's training leaves beside
                                          a checkpoint; `processor` then takes `recipe` too
    from_transformers(model), to_transformers(model)    to and from transformers' own model of the architecture
"""

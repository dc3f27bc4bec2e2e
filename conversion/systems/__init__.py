"""One module per original system: its published variants and the mapping of its checkpoint keys to ours.

The module's name is the system's name, and every module of this folder is a system. It provides:

    VARIANTS     {published name: configuration fields}
    model_class(fields)               the class that the fields of a variant configure
    prepare(tensors, fields)          original tensors under the keys that `transforms` maps, whatever their spelling
    infer(tensors, fields)            configuration fields that follow from the tensors (sizes, classes, ...)
    transforms(config)                list of WeightRenaming and WeightConverter to our keys
    processor(variant, config)        fields of the image processor, or another processor; None for a text model

and where they apply:

    infer_original(tensors)           configuration fields from the tensors as the file has them, before `prepare`
    original_fields(recipe, overrides)    configuration fields from the file that the original's training writes beside
                                          a checkpoint; `processor` then takes `recipe` too
    from_transformers(model)          our model for transformers' own model of the architecture
    to_transformers(model)            transformers' own model for ours
"""

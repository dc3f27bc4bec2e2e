"""Report of what vision models have learned, of `hf-vits inspect`: tables, pictures and a page.

`report.inspect` runs the sections of `sections`, from cheap to dear, on a `study.Study`: one or several models and a
folder of images. `page` writes the page.
"""

"""Claims of papers, checked here: what is compared, the runs, the verdict, and the page.

A claim is a YAML file of `claims/`, see `definition.Claim`; `hf-vits claims` runs it and writes `claims/results/`.
"""

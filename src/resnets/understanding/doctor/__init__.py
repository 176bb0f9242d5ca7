"""The doctor: what is wrong with pictures and labels, found before they cost a training run.

`facts` decodes every picture once; `twins`, `pictures`, `classes`, `surroundings` and `drift` make findings of the
facts; `labels` looks for wrong labels; `record` writes the manifest, `page` the page with pictures.
"""

"""Parts of launch/pretrain.py: the options and the run's directory, the text, the model, the record of a run."""

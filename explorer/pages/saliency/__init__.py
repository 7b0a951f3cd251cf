"""The Saliency page: what each model looks at."""

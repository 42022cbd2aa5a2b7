"""Which share of its good images a data set holds out, where it does not say so itself."""

# Kept out of the fit for the threshold, where a set brings no validation images.
VALIDATION_SHARE = 0.15

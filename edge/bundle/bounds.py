"""What a bundle may hold at most, whoever wrote it; reading them loads no other library."""

# Of a bundle's files, whatever a manifest says.
MAX_BUNDLE_MANIFEST_BYTES = 16 * 2**20
MAX_XML_BYTES = 256 * 2**20
MAX_BIN_BYTES = 2 * 2**30

# Sides of images and maps, and the pixels of a model's input or map.
MAX_SIDE_PX = 65_536
MAX_INPUT_PX = 2**24

# Scores are float32; differences and squares of them stay finite.
MAX_SCORE = 1e18
# A threshold beyond so many times the scores that were seen decides nothing.
MAX_SPREADS = 1000.0

MAX_NAME_LENGTH = 100
MAX_TEXT_LENGTH = 2000

# Sides of a locator's reference, reduced as it is searched.
MIN_REFERENCE_PX = 12
MAX_REFERENCE_PX = 96
# By this share a part may be larger or smaller than its reference, where that is searched. Of parts
# that are less alike differences between them pass for a size.
MAX_SCALE_SHARE = 0.1
MIN_LIKENESS_SIZED = 0.85

# Of a mask and its zones; what a verdict says of the zones has to fit into its 8 KiB, also with
# names of a script whose characters take several bytes.
MAX_POLYGONS = 100
MAX_POINTS = 400
MAX_RUNS = 200_000
MAX_ZONES = 16
MAX_ZONE_NAME_LENGTH = 40
MAX_ZONE_NAME_BYTES = 80

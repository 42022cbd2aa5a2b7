"""What a release is made with: notes, hashes, bill of materials."""

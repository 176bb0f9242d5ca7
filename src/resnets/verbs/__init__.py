"""One public function a file: each puts the rooms together for one verb."""

"""Other machines: a bundle is taken there, benched by the device install, and the record brought back."""

"""The ways to a device: one file each, named like the scheme of its URLs, found by `tledge.device.transport`."""

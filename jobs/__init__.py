"""Jobs on a Ray cluster that are no service: `prelabel annotate --input --ray`."""

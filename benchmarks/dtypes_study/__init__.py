"""Study of dtype crashes outside autocast: healthy models, mutants, an oracle, and the room's answers beside its peers'."""

"""Why two numbers of one name differ: which open choice moves a claimed number by how much."""

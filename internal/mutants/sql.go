package main

var sqlArea = area{
	name:     "sql",
	folder:   "sql",
	packages: []string{"sql"},
	mutants:  []mutant{},
}

package main

var codecArea = area{
	name:     "codec",
	folder:   ".",
	packages: []string{"."},
	mutants:  []mutant{},
}

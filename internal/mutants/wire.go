package main

var wireArea = area{
	name:     "wire",
	folder:   "internal/pgwire",
	packages: []string{"internal/pgwire"},
	mutants:  []mutant{},
}

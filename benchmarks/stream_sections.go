package main

// streamSections are about package stream. Their names begin with it.
func streamSections(l *lab) []*section {
	return []*section{
		streamCommitsSection(l),
	}
}

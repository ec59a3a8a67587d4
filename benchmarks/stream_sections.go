package main

// streamSections are about package stream. Their names begin with it.
func streamSections(l *lab) []*section {
	past := newBacklog(l)
	return append([]*section{
		streamCommitsSection(l),
		streamBacklogSection(past),
		streamWatermillSection(past),
		streamPublishSection(l),
		streamLatencySection(l),
		streamTxSection(past),
		streamCPUSection(l),
	}, streamQuietSections(l)...)
}

package pgtest

import (
	"context"
	"fmt"
)

// Standby makes a hot standby of a managed server: a copy of it in a folder and on a port of its own, that follows
// the server by streaming replication. The caller closes it.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	if s.local == nil {
		return nil, ErrNotManaged
	}
	local, err := newInstance(ctx, s.local.bin)
	if err != nil {
		return nil, err
	}
	err = local.run(ctx, "pg_basebackup", "-D", local.folder.data(), "-d", s.dsn, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	if err == nil {
		err = local.startAnywhere(ctx)
	}
	if err != nil {
		_ = local.remove() // the reason is in err
		return nil, err
	}
	return newServer(local, s.version, s.tls), nil
}

// Promote makes a standby a primary, and waits until it accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	if s.local == nil {
		return ErrNotManaged
	}
	if err := s.exec(ctx, "SELECT pg_promote()"); err != nil {
		return fmt.Errorf("pgtest: promote: %w", err)
	}
	return nil
}

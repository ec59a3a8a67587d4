package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
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
	if err = s.backup(ctx, local); err == nil {
		err = local.startAnywhere(ctx)
	}
	if err != nil {
		_ = local.remove() // the reason is in err
		return nil, err
	}
	return newServer(local, s.version, s.tls), nil
}

// backup copies the running server's data as pg_basebackup does, which not every installation has, and makes the copy
// follow the server.
func (s *Server) backup(ctx context.Context, to *instance) error {
	start, stop := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if s.version < 150000 {
		start, stop = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	conn, err := pgx.Connect(ctx, s.dsn) // one session, from start to stop
	if err != nil {
		return fmt.Errorf("pgtest: backup: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, start); err != nil {
		return fmt.Errorf("pgtest: backup: %w", err)
	}
	from, data := s.local.folder.data(), to.folder.data()
	if err := to.copyTree(from, data, "pg_wal", "postmaster.pid", "postmaster.opts"); err != nil {
		return fmt.Errorf("pgtest: backup: %w", err)
	}
	var label string
	if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
		return fmt.Errorf("pgtest: backup: %w", err)
	}
	// The log from start to stop, before the server has a reason to remove any of it.
	if err := to.copyTree(filepath.Join(from, "pg_wal"), filepath.Join(data, "pg_wal")); err != nil {
		return fmt.Errorf("pgtest: backup: %w", err)
	}
	settings, err := os.ReadFile(filepath.Join(data, "postgresql.auto.conf"))
	if err != nil {
		return fmt.Errorf("pgtest: backup: %w", err)
	}
	settings = fmt.Appendf(settings, "primary_conninfo = %s\n", quote(s.dsn))
	return errors.Join(
		to.folder.write(filepath.Join(dataName, "backup_label"), []byte(label), to.account),
		to.folder.write(filepath.Join(dataName, "standby.signal"), nil, to.account),
		to.folder.write(filepath.Join(dataName, "postgresql.auto.conf"), settings, to.account),
	)
}

// copyTree copies a folder but for some of what is in it. Files that come and go meanwhile are not missed.
func (i *instance) copyTree(from, to string, without ...string) error {
	skip := map[string]bool{}
	for _, name := range without {
		skip[filepath.Join(from, name)] = true
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case skip[path] && entry.IsDir():
			return filepath.SkipDir
		case skip[path]:
			return nil
		}
		within, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, within)
		if entry.IsDir() {
			if err := os.Mkdir(target, 0o700); err != nil {
				return err
			}
			return i.account.own(target)
		}
		return i.copyFile(path, target)
	})
}

func (i *instance) copyFile(from, to string) error {
	src, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // it was only read
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close(), i.account.own(to))
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

package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Options of a private server. The zero value is a server that trusts every local connection.
type Options struct {
	Bin      string            // folder of the binaries initdb and postgres; "": PGHUB_PG_BIN, else searched for
	Settings map[string]string // of postgresql.conf, unquoted, e.g. "max_connections": "20"
	InitArgs []string          // further arguments of initdb, e.g. "-E", "LATIN1"
	HBA      string            // the whole pg_hba.conf; "": trust. The superuser and password of DSN are postgres
	TLS      *TLS              // nil: off
	Env      []string          // further environment of a server from binaries, e.g. "LD_PRELOAD=/tmp/slow.so"
}

// TLS holds what a server needs to accept encrypted connections, in PEM.
type TLS struct {
	Cert []byte // the server's certificate, then any intermediate ones
	Key  []byte // its private key
	CA   []byte // of client certificates; nil: none are asked for
}

// StopMode says what becomes of the connections of a server that stops.
type StopMode int

// The modes of pg_ctl stop.
const (
	Fast      StopMode = iota // rolls back and disconnects everybody with FATAL 57P01
	Smart                     // waits until everybody has left
	Immediate                 // quits without a checkpoint; the next start recovers
)

// Environment variables that choose a server.
const (
	envTestDSN = "PGHUB_TEST_DSN"
	envDSN     = "DATABASE_URL"
	envBin     = "PGHUB_PG_BIN"
)

// ErrUnavailable says that there is no PostgreSQL to be had here, and what to install.
var ErrUnavailable = errors.New("no PostgreSQL found: install its server programs (for example: apt-get install postgresql), " +
	"or start Docker, or set " + envTestDSN + " (tests) or " + envDSN + " to the DSN of a running server")

// ErrNotManaged is the answer of a server that was not started from binaries, and so cannot be stopped or signalled.
var ErrNotManaged = errors.New("pgtest: not a server of ours: it was not started from installed binaries")

// trustHBA lets everybody in who can reach the server, for replication too.
const trustHBA = `local all,replication all trust
host all,replication all all trust
`

// defaultSettings makes a throw-away server fast, and confined to its folder.
func defaultSettings() map[string]string {
	return map[string]string{
		"listen_addresses":           "127.0.0.1",
		"max_connections":            "200",
		"fsync":                      "off",
		"max_wal_size":               "256MB",
		"dynamic_shared_memory_type": "mmap", // nothing is left in /dev/shm after a kill
		"log_line_prefix":            "%m [%p] %a ",
	}
}

// settings returns the lines that o adds to postgresql.conf, in a fixed order.
func (o Options) settings() string {
	all := defaultSettings()
	if o.TLS != nil {
		all["ssl"] = "on"
		all["ssl_cert_file"] = "server.crt"
		all["ssl_key_file"] = "server.key"
		if o.TLS.CA != nil {
			all["ssl_ca_file"] = "root.crt"
		}
	}
	for name, value := range o.Settings {
		all[name] = value
	}
	lines := make([]string, 0, len(all))
	for name, value := range all {
		lines = append(lines, name+" = "+quote(value)+"\n")
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

// files returns what o puts into the data folder besides postgresql.conf.
func (o Options) files() map[string][]byte {
	files := map[string][]byte{"pg_hba.conf": []byte(trustHBA)}
	if o.HBA != "" {
		files["pg_hba.conf"] = []byte(o.HBA + "\n")
	}
	if o.TLS != nil {
		files["server.crt"] = o.TLS.Cert
		files["server.key"] = o.TLS.Key
		if o.TLS.CA != nil {
			files["root.crt"] = o.TLS.CA
		}
	}
	return files
}

// quote writes a value of postgresql.conf.
func quote(value string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), "'", "''") + "'"
}

// binaries returns the folder to start servers from, "" if PostgreSQL is not installed.
func (o Options) binaries() (string, error) {
	if !platformManages {
		return "", nil
	}
	for _, dir := range []string{o.Bin, os.Getenv(envBin)} {
		if dir == "" {
			continue
		}
		if !hasServer(dir) {
			return "", errors.New("pgtest: no initdb and postgres in " + filepath.Clean(dir))
		}
		return dir, nil
	}
	return findBinaries(), nil
}

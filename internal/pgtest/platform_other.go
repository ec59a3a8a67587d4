//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package pgtest

import (
	"errors"
	"os"
	"syscall"
)

// Freeze and Thaw are signals that this operating system does not have: nothing that could get one is started.
const (
	Freeze = syscall.Signal(0)
	Thaw   = syscall.Signal(0)
)

// platformManages says that no server is started from binaries here: the functions below are never reached.
const platformManages = false

type account struct{}

func serverAccount() (*account, error) {
	return nil, errors.New("pgtest: servers are not started from binaries on this operating system")
}

func (*account) own(string) error                 { return nil }
func (*account) attributes() *syscall.SysProcAttr { return nil }
func (*account) baseFolders() []string            { return nil }

func tryLock(*os.File) bool       { return false }
func freeze(int)                  {}
func thaw(int)                    {}
func serves(int, string) bool     { return false }
func children(int) ([]int, error) { return nil, nil }
func alive(int) bool              { return false }

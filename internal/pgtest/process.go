package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const pollInterval = 10 * time.Millisecond

// A process runs one program from start to end on one operating system thread: Linux sends a child the signal of
// its parent's death when the thread that started it ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.supervise(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) supervise(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait returns when the process has ended, or with an error when ctx has.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run starts cmd and waits for its end; it is killed if ctx ends first.
func run(ctx context.Context, cmd *exec.Cmd) error {
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		_ = signal(p.pid(), syscall.SIGKILL) // it may just have ended
		<-p.done
		return err
	}
	return p.err
}

// command prepares a program of PostgreSQL: as account, in English, without the caller's PG* variables, with its
// output appended to the log.
func command(f *folder, account *account, program string, args ...string) (*exec.Cmd, func(), error) {
	log, err := os.OpenFile(f.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = f.path
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = account.attributes()
	return cmd, func() { _ = log.Close() }, nil
}

func environment(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") || strings.HasPrefix(variable, "LC_") || strings.HasPrefix(variable, "LANG")
	})
	return append(env, "LC_ALL=C", "TZ=UTC")
}

func signal(pid int, sig syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(sig)
}

// killTree kills the server process pid and all its children, stopped ones too, and waits until the children are gone.
func killTree(ctx context.Context, pid int) error {
	freeze(pid) // so that it starts no further child
	pids, err := children(pid)
	if err != nil {
		return fmt.Errorf("pgtest: children of %d: %w", pid, err)
	}
	if err := signal(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("pgtest: kill %d: %w", pid, err)
	}
	for _, child := range pids {
		_ = signal(child, syscall.SIGKILL) // it may have ended by itself
	}
	return poll(ctx, func() (bool, error) { return !slices.ContainsFunc(pids, alive), nil })
}

// clearCrash removes what a killed server could not: its pid file, which makes the next start believe that it
// still runs once its number is another's, and its System V shared memory. Nothing may use the folder any more.
func clearCrash(ctx context.Context, data string) {
	if id := readPidfile(data).shmem; id != "" {
		_ = exec.CommandContext(ctx, "ipcrm", "-m", id).Run() // a page of memory: not worth an error
	}
	_ = os.Remove(filepath.Join(data, "postmaster.pid"))
}

// poll calls done until it says yes, it fails or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

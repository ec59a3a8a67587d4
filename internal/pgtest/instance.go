package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	superuser = "postgres" // its password is the same

	// Ports are taken from below those that systems give to outgoing connections: a client that connects again
	// and again while the server is down could else be given the server's own port, and be connected to itself.
	firstPort, lastPort = 20000, 32000
	portAttempts        = 5

	startTimeout = time.Minute
	stopTimeout  = 2 * time.Minute // a server waits for a standby that has not caught up, for wal_sender_timeout: a minute
	killTimeout  = 10 * time.Second
)

var errPortTaken = errors.New("pgtest: the port is taken")

// An instance is a server that runs from binaries in a folder of its own.
type instance struct {
	bin     string
	account *account
	folder  *folder
	env     []string // of postgres, besides what environment leaves

	mu   sync.Mutex
	port int      // guarded by mu; fixed after the first start
	proc *process // guarded by mu; nil before the first start
}

// newInstance sweeps up after others, and makes a folder without data.
func newInstance(ctx context.Context, bin string) (*instance, error) {
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	bases := account.baseFolders()
	for _, base := range bases {
		sweep(ctx, base)
	}
	folder, err := newFolder(bases[0], account)
	if err != nil {
		return nil, err
	}
	return &instance{bin: bin, account: account, folder: folder}, nil
}

// initialise makes the data of a new server.
func (i *instance) initialise(ctx context.Context, opts Options) error {
	if err := i.folder.write("password", []byte(superuser+"\n"), i.account); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	args := []string{
		"-D", i.folder.data(), "-U", superuser, "--pwfile", filepath.Join(i.folder.path, "password"),
		"-A", "scram-sha-256", "--locale=C", "-E", "UTF8", "--no-sync",
	}
	if err := i.run(ctx, "initdb", append(args, opts.InitArgs...)...); err != nil {
		return err
	}
	conf := filepath.Join(dataName, "postgresql.conf")
	text, err := os.ReadFile(filepath.Join(i.folder.path, conf))
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err := i.folder.write(conf, append(text, opts.settings()...), i.account); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	for name, content := range opts.files() {
		if err := i.folder.write(filepath.Join(dataName, name), content, i.account); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
	}
	return nil
}

// run runs a program of the installation to its end.
func (i *instance) run(ctx context.Context, program string, args ...string) error {
	cmd, closeLog, err := command(i.folder, i.account, filepath.Join(i.bin, program), args...)
	if err != nil {
		return fmt.Errorf("pgtest: %s: %w", program, err)
	}
	defer closeLog()
	before := i.folder.logSize()
	if err := run(ctx, cmd); err != nil {
		return fmt.Errorf("pgtest: %s: %w\n%s", program, err, i.folder.logTail(before))
	}
	return nil
}

// startAnywhere starts the server for the first time, on a free port.
func (i *instance) startAnywhere(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	err := errPortTaken
	for attempt := 0; attempt < portAttempts && errors.Is(err, errPortTaken); attempt++ {
		if i.port, err = freePort(); err == nil {
			err = i.startLocked(ctx)
		}
	}
	return err
}

// start starts a stopped server again, on its port.
func (i *instance) start(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc != nil && !i.proc.ended() {
		return errors.New("pgtest: the server is already running")
	}
	return i.startLocked(ctx)
}

func (i *instance) startLocked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	before := i.folder.logSize()
	cmd, closeLog, err := command(i.folder, i.account, filepath.Join(i.bin, "postgres"),
		"-D", i.folder.data(), "-p", strconv.Itoa(i.port), "-c", "unix_socket_directories="+i.socketFolder())
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer closeLog()
	cmd.Env = append(cmd.Env, i.env...)
	if i.proc, err = startProcess(cmd); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err = i.awaitReady(ctx, i.proc); err == nil {
		return nil
	}
	if !i.proc.ended() {
		_ = i.killLocked() // the reason is in err
	}
	log := i.folder.logTail(before)
	if strings.Contains(log, "could not bind") {
		return errPortTaken
	}
	return fmt.Errorf("pgtest: postgres did not start: %w\n%s", err, log)
}

// awaitReady returns when the server accepts connections.
func (i *instance) awaitReady(ctx context.Context, proc *process) error {
	return poll(ctx, func() (bool, error) {
		if proc.ended() {
			return false, fmt.Errorf("it ended: %w", proc.err)
		}
		state := readPidfile(i.folder.data())
		return state.pid == proc.pid() && state.status == "ready", nil
	})
}

// address is where the server listens.
func (i *instance) address() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(i.port))
}

// socketFolder is where the Unix socket lies; "" for none, if its path would be too long for the system.
func (i *instance) socketFolder() string {
	const longest = 103 // on macOS; 107 on Linux
	if len(filepath.Join(i.folder.path, ".s.PGSQL.65535.lock")) > longest {
		return ""
	}
	return i.folder.path
}

// running returns the server process, nil if it has ended.
func (i *instance) running() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc == nil || i.proc.ended() {
		return nil
	}
	return i.proc
}

// stop ends the server in an orderly way; it returns nil if the server has ended already.
func (i *instance) stop(mode StopMode) error {
	proc := i.running()
	if proc == nil {
		return nil
	}
	sig := map[StopMode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}[mode]
	if err := signal(proc.pid(), sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("pgtest: stop: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := proc.wait(ctx); err != nil {
		return fmt.Errorf("pgtest: the server has not stopped within %s (is a backend stopped, or a client still there?)", stopTimeout)
	}
	return nil
}

// kill ends all processes of the server as a crash of the machine would, and waits until they are gone.
func (i *instance) kill() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc == nil || i.proc.ended() {
		return nil
	}
	return i.killLocked()
}

func (i *instance) killLocked() error {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := killTree(ctx, i.proc.pid()); err != nil {
		return err
	}
	if err := i.proc.wait(ctx); err != nil {
		return fmt.Errorf("pgtest: kill: %w", err)
	}
	clearCrash(ctx, i.folder.data())
	return nil
}

// signalBackend sends a signal to a child of the server, and to no other process.
func (i *instance) signalBackend(pid int, sig syscall.Signal) error {
	proc := i.running()
	if proc == nil {
		return errors.New("pgtest: the server is not running")
	}
	pids, err := children(proc.pid())
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if !slices.Contains(pids, pid) {
		return fmt.Errorf("pgtest: %d is not a process of this server", pid)
	}
	return signal(pid, sig)
}

// reload makes the server read its configuration files again.
func (i *instance) reload() error {
	proc := i.running()
	if proc == nil {
		return errors.New("pgtest: the server is not running")
	}
	return signal(proc.pid(), syscall.SIGHUP)
}

// remove ends the server at once and deletes its folder.
func (i *instance) remove() error {
	return errors.Join(i.quit(), i.folder.remove())
}

// quit ends the server without a checkpoint. The server waits for its children itself, unlike after a kill, which
// in a container whose first process waits for nobody leaves zombies.
func (i *instance) quit() error {
	proc := i.running()
	if proc == nil {
		return nil
	}
	pids, _ := children(proc.pid()) // only to be quick: the server kills those that do not react after 5 seconds
	for _, pid := range append(pids, proc.pid()) {
		thaw(pid)
	}
	if err := i.stop(Immediate); err != nil {
		return i.kill()
	}
	return nil
}

// freePort returns a port that nobody listens on at this moment.
func freePort() (int, error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("pgtest: no free port from %d to %d", firstPort, lastPort)
}

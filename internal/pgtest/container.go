package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	containerImage = "postgres:17-alpine"
	containerPort  = "5432/tcp"

	engineTimeout    = 3 * time.Second
	containerTimeout = 2 * time.Minute // the image may have to be fetched first
)

// engineAnswers says within seconds whether there is a Docker engine. testcontainers looks for it without a
// context of ours, and panics in some cases: it does so on a goroutine that is left behind if it hangs.
func engineAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	answer := make(chan bool, 1)
	go func() {
		defer func() {
			if recover() != nil {
				answer <- false
			}
		}()
		provider, err := testcontainers.ProviderDefault.GetProvider(testcontainers.WithLogger(tclog.NewNoopLogger()))
		if err != nil {
			answer <- false
			return
		}
		defer func() { _ = provider.Close() }()
		answer <- provider.Health(ctx) == nil
	}()
	select {
	case ok := <-answer:
		return ok
	case <-ctx.Done():
		return false
	}
}

// startContainer makes a server in a container.
func startContainer(ctx context.Context, opts Options) (server *Server, err error) {
	if opts.HBA != "" || opts.TLS != nil {
		return nil, errors.New("pgtest: the options HBA and TLS need installed binaries, and there is only Docker")
	}
	defer func() {
		if reason := recover(); reason != nil {
			server, err = nil, fmt.Errorf("pgtest: container: %v", reason)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, containerTimeout)
	defer cancel()
	container, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: containerRequest(opts),
		Started:          true,
		Logger:           tclog.NewNoopLogger(),
	})
	end := func() error { return testcontainers.TerminateContainer(container) }
	if err != nil {
		_ = end() // the reason is in err
		return nil, fmt.Errorf("pgtest: container: %w", err)
	}
	dsn, err := containerDSN(ctx, container)
	if err == nil {
		server, err = attach(ctx, dsn, end)
	}
	if err != nil {
		_ = end() // the reason is in err
		return nil, err
	}
	return server, nil
}

func containerRequest(opts Options) testcontainers.ContainerRequest {
	settings := defaultSettings()
	settings["listen_addresses"] = "*" // of the container
	for name, value := range opts.Settings {
		settings[name] = value
	}
	args := make([]string, 0, len(settings))
	for name, value := range settings {
		args = append(args, "--"+name+"="+value)
	}
	sort.Strings(args)
	return testcontainers.ContainerRequest{
		Image:        containerImage,
		ExposedPorts: []string{containerPort},
		Cmd:          append([]string{"postgres"}, args...),
		Env: map[string]string{
			"POSTGRES_PASSWORD":         superuser,
			"POSTGRES_HOST_AUTH_METHOD": "trust",
			"POSTGRES_INITDB_ARGS":      initArguments(opts),
		},
		// The image starts the server twice: first without TCP, to set it up.
		WaitingFor: wait.ForLog("database system is ready to accept connections").
			WithOccurrence(2).WithStartupTimeout(containerTimeout),
	}
}

// initArguments are those of a server from binaries; the image passes them to initdb through a shell.
func initArguments(opts Options) string {
	return strings.Join(append([]string{"--locale=C", "-E", "UTF8"}, opts.InitArgs...), " ")
}

func containerDSN(ctx context.Context, container testcontainers.Container) (string, error) {
	host, err := container.Host(ctx)
	if err != nil {
		return "", fmt.Errorf("pgtest: container: %w", err)
	}
	port, err := container.MappedPort(ctx, containerPort)
	if err != nil {
		return "", fmt.Errorf("pgtest: container: %w", err)
	}
	return managedDSN(net.JoinHostPort(host, port.Port()), false), nil
}

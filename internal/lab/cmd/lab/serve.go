package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/govmi/govmi/internal/lab"
)

// serve keeps one machine for the jobs of other processes, until a signal comes or the machine breaks.
func serve(ctx context.Context, args []string) (status int, err error) {
	fs := flag.NewFlagSet("lab serve", flag.ContinueOnError)
	var b bootFlags
	b.register(fs)
	path := fs.String("socket", "", "`path` of the socket; default is a new one")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	b.boot.Yardstick = true
	s, err := b.start(ctx)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	socket, stop, err := serveAt(ctx, *path, s)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Printf("export %s=%s\n", lab.SocketVar, socket)
	select {
	case <-ctx.Done():
		return 0, nil
	case <-s.Gone():
		return exitFailed, errors.New("the machine is gone")
	}
}

// serveAt serves r at a socket of the given path, or at one in a new folder.
func serveAt(ctx context.Context, path string, r lab.Runner) (socket string, stop func() error, err error) {
	remove := func() error { return nil }
	if path == "" {
		dir, err := os.MkdirTemp("", "govmi-lab-socket-")
		if err != nil {
			return "", nil, err
		}
		remove = func() error { return os.RemoveAll(dir) }
		path = filepath.Join(dir, "lab")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	served := make(chan error, 1)
	go func() { served <- lab.Serve(ctx, l, r) }()
	return path, func() error {
		err := l.Close()
		if errors.Is(err, net.ErrClosed) { // ctx ended first
			err = nil
		}
		return errors.Join(err, <-served, remove())
	}, nil
}

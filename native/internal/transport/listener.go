package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// listen opens the address: `host:port`, `unix:///path` or, on Linux, the abstract `unix://@name`.
func (s *Server) listen() (net.Listener, error) {
	path, isSocket := strings.CutPrefix(s.options.Listen, "unix://")
	var opened net.Listener
	var err error
	switch {
	case !isSocket:
		opened, err = net.Listen("tcp", s.options.Listen)
	case strings.HasPrefix(path, "@"):
		opened, err = net.Listen("unix", path)
	default:
		opened, err = listenSocket(path, os.FileMode(s.options.SocketMode))
	}
	if err != nil {
		return nil, err
	}
	return &limited{Listener: opened, limit: int64(s.options.MaxConnections), counters: &s.counters}, nil
}

// listenSocket makes the socket where nobody else can reach it, gives it its mode, and only then its name: there is no
// moment at which another user could connect (attack A21).
func listenSocket(path string, mode os.FileMode) (net.Listener, error) {
	if probe, err := net.Dial("unix", path); err == nil {
		_ = probe.Close()
		return nil, fmt.Errorf("%s: another server is listening", path)
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".authz-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	hidden := filepath.Join(private, "s")
	opened, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, err
	}
	opened.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(hidden, mode), os.Rename(hidden, path)); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return &named{Listener: opened, path: path}, nil
}

// named removes its socket when it closes.
type named struct {
	net.Listener
	path string
}

// Close implements net.Listener.
func (n *named) Close() error {
	_ = os.Remove(n.path)
	return n.Listener.Close()
}

// limited closes connections past a limit at once: a caller that is refused can try elsewhere, one that is left waiting
// in the backlog cannot.
type limited struct {
	net.Listener
	limit    int64
	counters *counters
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.counters.connections.Add(1) <= l.limit {
			return &counted{Conn: connection, open: &l.counters.connections}, nil
		}
		l.counters.connections.Add(-1)
		l.counters.connectionsRefused.Add(1)
		_ = connection.Close()
	}
}

type counted struct {
	net.Conn
	once sync.Once
	open interface{ Add(int64) int64 }
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

//go:build linux

package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// faultServiceEnv holds the address to serve at in a process that is a service of
// the fault suite.
const faultServiceEnv = "SLUICE_FAULT_SERVICE"

// What a service of the suite does to those who ask it; killed and stopped are done
// to its process.
const (
	modeOK        = "ok"
	modeRefuse    = "refuse"     // nothing listens, connections are closed
	modeBlackHole = "black-hole" // connecting never ends: the backlog is full
	modeResetHead = "reset-head" // RST instead of an answer
	modeResetBody = "reset-body" // RST after half of the body
	modeError     = "500"
	modeSlow      = "slow"   // answers after slowTime
	modeSilent    = "silent" // reads requests and never answers
)

const (
	slowTime   = 3 * time.Second
	smallBytes = 600
	bigBytes   = 72 << 10 // more than the gateway buffers
)

// TestFaultServiceProcess is the main function of a service of the fault suite: the
// test binary runs itself with faultServiceEnv. It tells of each request it has got
// before it does anything else, so that nothing is forgotten when it is killed.
func TestFaultServiceProcess(_ *testing.T) {
	addr := os.Getenv(faultServiceEnv)
	if addr == "" {
		return
	}
	s := &faultServer{addr: addr, conns: map[*net.TCPConn]bool{}}
	s.mode.Store(modeOK)
	s.listen()
	s.tell("ready", "")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, value, _ := strings.Cut(in.Text(), " ")
		if verb == "mode" {
			s.change(value)
		}
		s.tell(verb, value)
	}
	os.Exit(0) // the suite is gone
}

// faultServer is the service within its process.
type faultServer struct {
	addr string
	mode atomic.Value

	mu       sync.Mutex
	listener net.Listener
	conns    map[*net.TCPConn]bool
	hole     int        // a listening socket that nobody accepts from
	fill     []net.Conn // what fills its backlog
}

// tell writes one line to the suite: one write, so that lines never mix.
func (s *faultServer) tell(verb, value string) {
	if _, err := os.Stdout.WriteString("fault " + verb + " " + value + "\n"); err != nil {
		os.Exit(1)
	}
}

func (s *faultServer) fatal(err error) {
	fmt.Fprintln(os.Stderr, "fault service:", err)
	os.Exit(1)
}

// listen opens the listener; the port may still be in use by what was there before.
func (s *faultServer) listen() {
	deadline, tick := time.Now().Add(5*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		l, err := net.Listen("tcp", s.addr)
		if err == nil {
			s.mu.Lock()
			s.listener = l
			s.mu.Unlock()
			go s.accept(l)
			return
		}
		if time.Now().After(deadline) {
			s.fatal(err)
		}
		<-tick.C
	}
}

func (s *faultServer) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c.(*net.TCPConn)] = true
		s.mu.Unlock()
		go s.serve(c.(*net.TCPConn))
	}
}

// change makes the service behave as mode says.
func (s *faultServer) change(mode string) {
	old := s.mode.Swap(mode).(string)
	if old == modeBlackHole {
		for _, c := range s.fill {
			_ = c.Close()
		}
		_ = syscall.Close(s.hole)
		s.fill = nil
	}
	if mode == modeRefuse || mode == modeBlackHole {
		s.mu.Lock()
		_ = s.listener.Close()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
	}
	switch {
	case mode == modeBlackHole:
		s.dig()
	case mode == modeOK && (old == modeRefuse || old == modeBlackHole):
		s.listen()
	}
}

// dig opens a listener with the shortest backlog and fills it: further SYNs are
// dropped, which is what a host that is gone looks like.
func (s *faultServer) dig() {
	at, err := net.ResolveTCPAddr("tcp4", s.addr)
	if err != nil {
		s.fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		s.fatal(err)
	}
	to := &syscall.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, to); err != nil {
		s.fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		s.fatal(err)
	}
	s.hole = fd
	for range 8 {
		c, err := net.DialTimeout("tcp", s.addr, 100*time.Millisecond)
		if err != nil {
			return
		}
		s.fill = append(s.fill, c)
	}
}

func (s *faultServer) serve(c *net.TCPConn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		id := req.Header.Get("X-Id")
		if id != "" {
			s.tell("got", id)
		}
		if !s.answer(c, id, req.URL.Path) {
			return
		}
	}
}

// answer answers one request as the mode says and reports whether the connection
// may have another.
func (s *faultServer) answer(c *net.TCPConn, id, path string) bool {
	status, body := "200 OK", faultBody(id, path)
	switch s.mode.Load().(string) {
	case modeResetHead:
		return s.reset(c)
	case modeResetBody:
		text := faultAnswer(status, path, body)
		_, _ = c.Write(text[:len(text)-len(body)/2])
		<-time.After(5 * time.Millisecond) // what was sent arrives before the RST
		return s.reset(c)
	case modeError:
		status = "500 Internal Server Error"
	case modeSlow:
		<-time.After(slowTime)
	case modeSilent:
		_, _ = c.Read(make([]byte, 1)) // the gateway gives up
		return false
	}
	_, err := c.Write(faultAnswer(status, path, body))
	return err == nil
}

// reset ends a connection with RST.
func (s *faultServer) reset(c *net.TCPConn) bool {
	_ = c.SetLinger(0)
	_ = c.Close()
	return false
}

// faultBody returns what a service answers: the id, repeated.
func faultBody(id, path string) []byte {
	n := smallBytes
	if strings.Contains(path, "/big") {
		n = bigBytes
	}
	line := fmt.Sprintf("%-15s\n", id)
	return []byte(strings.Repeat(line, n/len(line)))
}

func faultAnswer(status, path string, body []byte) []byte {
	head := "HTTP/1.1 " + status + "\r\nContent-Type: text/plain\r\n"
	if !strings.HasSuffix(path, "/chunked") {
		return append(fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n", head, len(body)), body...)
	}
	b := append([]byte(head), "Transfer-Encoding: chunked\r\n\r\n"...)
	const piece = 16 << 10
	for len(body) > 0 {
		n := min(piece, len(body))
		b = fmt.Appendf(b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return append(b, "0\r\n\r\n"...)
}

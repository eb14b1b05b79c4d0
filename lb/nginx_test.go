package lb

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNginxSplit(t *testing.T) {
	f := func(name, host, port string) {
		t.Helper()
		if h, p := nginxSplit(name); h != host || p != port {
			t.Errorf("%q: got %q and %q", name, h, p)
		}
	}
	f("10.0.0.1:80", "10.0.0.1", "80")
	f("[::1]:8080", "[::1]", "8080")
	f("example.com", "example.com", "")
	f("[fe80::a]", "[fe80::a]", "")
	f("example.com:", "example.com", "")
}

// Weights beyond the bound are scaled down, and each still has points.
func TestNginxPointsMax(t *testing.T) {
	targets := weighing(cycle(100, 65535, 1)...)
	places := nginxPlaces(targets)
	if len(places) > nginxPointsMax+len(targets)*nginxPoints {
		t.Errorf("%d points", len(places))
	}
}

// nginxServers are ports of servers of one nginx that answer with their port.
const nginxServers = 30

// nginxSets are the upstreams that the same nginx balances over those servers.
var nginxSets = []struct {
	weights []int
	down    []int
}{
	{weights: []int{1}},
	{weights: []int{1, 1}},
	{weights: []int{1, 1, 1}},
	{weights: []int{5, 1, 2, 7}},
	{weights: cycle(10, 1, 3, 2)},
	{weights: cycle(30, 4, 1)},
	{weights: []int{1, 1, 1}, down: []int{1}},
	{weights: cycle(10, 1, 2), down: []int{3}},
	{weights: cycle(10, 1), down: []int{0, 4, 9}},
}

// Every key goes where nginx's "hash $arg_k consistent" sends it, and where a server
// is down, to the one that nginx goes on to. nginx 1.22 leaves the ring for
// round-robin after 21 points of servers that are down; Ring walks on, as later
// nginx does. With fewer down than half of the weight that is one key in 2^21.
func TestRingAgreesWithNginx(t *testing.T) {
	ports := startNginx(t)
	client := &http.Client{Timeout: 10 * time.Second}
	for set, s := range nginxSets {
		targets := make([]Target, len(s.weights))
		for i, w := range s.weights {
			targets[i] = Target{Name: nginxName(ports[i]), Weight: w, State: NewState()}
		}
		for _, i := range s.down {
			targets[i].State.Force(false, 0)
		}
		g := NewRing(targets, RingOptions{Nginx: true})
		differ := 0
		const keys = 1500
		for k := range keys {
			key := strconv.Itoa(k*7919) + strings.Repeat("x", k%40)
			want := nginxAnswer(t, client, fmt.Sprintf("http://%s/%d?k=%s", nginxName(ports[nginxServers]), set, key))
			got := g.Pick(&Request{Hash: NginxHash([]byte(key))})
			if got == None || strconv.Itoa(ports[got]) != want {
				differ++
			}
		}
		if differ > 0 {
			t.Errorf("weights %v, down %v: %d of %d keys go elsewhere", s.weights, s.down, differ, keys)
		}
	}
	client.CloseIdleConnections()
}

func nginxName(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func nginxAnswer(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", url, answer.StatusCode, body, err)
	}
	return string(body)
}

// startNginx starts nginx until the end of the test and returns the ports of its
// servers, and last the one that balances.
func startNginx(t *testing.T) []int {
	t.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		if binary, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatal("nginx is missing: this test compares with it (apt-get install nginx-light)")
		}
	}
	ports := freePorts(t, nginxServers+1)
	folder := t.TempDir()
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, nginxConfig(ports, folder), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	command := exec.Command(binary, "-e", "stderr", "-p", folder, "-c", file)
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill() // its own pid: there is no master and no worker
		<-ended
	})
	for {
		select {
		case <-ended:
			t.Fatalf("nginx ended: %s", log.String())
		default:
		}
		if c, err := net.Dial("tcp", nginxName(ports[nginxServers])); err == nil {
			c.Close()
			return ports
		}
	}
}

func nginxConfig(ports []int, folder string) []byte {
	var c bytes.Buffer
	fmt.Fprintf(&c, "daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\n", folder)
	fmt.Fprintf(&c, "events { worker_connections 512; }\nhttp {\naccess_log off;\n")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&c, "%s_temp_path %s;\n", kind, folder)
	}
	for _, port := range ports[:nginxServers] {
		fmt.Fprintf(&c, "server { listen %s; return 200 $server_port; }\n", nginxName(port))
	}
	for set, s := range nginxSets {
		fmt.Fprintf(&c, "upstream u%d { hash $arg_k consistent; keepalive 64;\n", set)
		for i, w := range s.weights {
			down := ""
			for _, d := range s.down {
				if d == i {
					down = " down"
				}
			}
			fmt.Fprintf(&c, "server %s weight=%d%s;\n", nginxName(ports[i]), w, down)
		}
		c.WriteString("}\n")
	}
	fmt.Fprintf(&c, "server { listen %s; keepalive_requests 1000000;\n", nginxName(ports[nginxServers]))
	for set := range nginxSets {
		fmt.Fprintf(&c, "location = /%d { proxy_pass http://u%d/; proxy_http_version 1.1; proxy_set_header Connection ''; }\n", set, set)
	}
	c.WriteString("}\n}\n")
	return c.Bytes()
}

// freePorts returns n ports of the loopback that nobody listened on just now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

package main

var haproxyTool = tool{name: "haproxy", apt: "haproxy", version: "-v"}

var haproxySubject = &subject{
	name:  "haproxy",
	about: "mode http, http-reuse always, 1 thread, no log (conf/haproxy.cfg)",
	tools: []tool{haproxyTool},
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		conf, err := l.render(dir, "haproxy.cfg", p)
		return &program{args: []string{l.found[haproxyTool], "-db", "-f", conf}}, err
	},
}

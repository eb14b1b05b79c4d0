package main

var caddyTool = tool{name: "caddy", apt: "caddy", version: "version"}

var caddySubject = &subject{
	name:  "caddy",
	about: "reverse_proxy with as many kept connections as the generator has, no log, GOMAXPROCS=1, defaults otherwise (conf/Caddyfile)",
	tools: []tool{caddyTool},
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		conf, err := l.render(dir, "Caddyfile", p)
		return &program{
			args: []string{l.found[caddyTool], "run", "--config", conf, "--adapter", "caddyfile"},
			env:  []string{"GOMAXPROCS=1", "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir},
		}, err
	},
}

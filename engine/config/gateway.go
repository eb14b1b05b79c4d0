package config

// Gateway is the `gateway:` block: what Kong keeps in kong.conf, under the same names.
// Each property may be given as SLUICE_<NAME> in the environment, which wins over the
// file; lists are comma-separated there. NewGateway gives the defaults.
type Gateway struct {
	ProxyListen  Listeners `json:"proxy_listen" doc:"Where clients connect. Default 0.0.0.0:8000, and 0.0.0.0:8443 ssl http2 once a certificate exists."`
	AdminListen  Listeners `json:"admin_listen" doc:"Where the Admin API listens."`
	StatusListen Listeners `json:"status_listen" doc:"Where status, readiness and metrics listen."`
	StreamListen Listeners `json:"stream_listen"`

	TrustedIPs      []string `json:"trusted_ips" doc:"Addresses and CIDRs whose forwarding headers are believed; unix: for socket peers."`
	RealIPHeader    string   `json:"real_ip_header"`
	RealIPRecursive bool     `json:"real_ip_recursive"`

	ClientMaxBodySize    Size `json:"client_max_body_size" doc:"Bytes, with k, m or g; 0 for no limit."`
	ClientBodyBufferSize Size `json:"client_body_buffer_size" doc:"Bytes of a body kept in memory."`

	UpstreamKeepalivePoolSize    int `json:"upstream_keepalive_pool_size" min:"0" max:"2147483647" doc:"Idle connections to one address, 0 for none."`
	UpstreamKeepaliveMaxRequests int `json:"upstream_keepalive_max_requests" min:"0" max:"2147483647" doc:"Requests over one connection, 0 for no limit."`
	UpstreamKeepaliveIdleTimeout int `json:"upstream_keepalive_idle_timeout" min:"0" max:"2147483647" doc:"Seconds, 0 for ever."` // seconds

	DNSResolver     []string `json:"dns_resolver" doc:"Name servers: IP addresses, with or without a port; empty uses resolv.conf."`
	DNSHostsfile    string   `json:"dns_hostsfile" doc:"File of addresses and names, looked at before any name server; read again when it changes."`
	DNSOrder        []string `json:"dns_order" enum:"LAST,SRV,A,AAAA,CNAME" doc:"Kinds of records asked for, in turn; LAST is the kind that answered the last time."`
	DNSValidTTL     *float64 `json:"dns_valid_ttl" min:"0" doc:"Seconds that override the TTL of an answer; null or 0 keeps it."` // seconds
	DNSStaleTTL     float64  `json:"dns_stale_ttl" min:"0" doc:"Seconds an expired answer is used while asking again fails."`     // seconds
	DNSNotFoundTTL  float64  `json:"dns_not_found_ttl" min:"0" doc:"Seconds an empty answer is kept."`                            // seconds
	DNSErrorTTL     float64  `json:"dns_error_ttl" min:"0" doc:"Seconds a failed lookup is kept."`                                // seconds
	DNSCacheSize    int      `json:"dns_cache_size" min:"0" max:"2147483647" doc:"Names kept, beside those of services and targets; 0 for 10000."`
	DNSNoSync       bool     `json:"dns_no_sync" doc:"Do not share one lookup between requests."`
	DNSTimeout      int      `json:"dns_timeout" min:"1" max:"2147483647" doc:"Milliseconds of one try. Not in Kong."` // milliseconds
	NewDNSClient    bool     `json:"new_dns_client" doc:"Ask SRV for names such as _http._tcp.x, nothing else for those, and SRV for no others."`
	ResolverTimeout int      `json:"resolver_timeout" min:"0" max:"2147483647" doc:"Seconds."` // seconds

	Headers           []string `json:"headers" enum:"server_tokens,latency_tokens,Server,Via,X-Kong-Proxy-Latency,X-Kong-Response-Latency,X-Kong-Upstream-Latency,X-Kong-Admin-Latency,X-Kong-Upstream-Status,X-Kong-Request-Id,X-Kong-Total-Latency,X-Kong-Third-Party-Latency,X-Kong-Client-Latency,off" doc:"Headers added to answers."`
	HeadersUpstream   []string `json:"headers_upstream" enum:"X-Kong-Request-Id,off" doc:"Headers added to upstream requests."`
	LogLevel          string   `json:"log_level" enum:"debug,info,notice,warn,error,crit,alert,emerg"`
	ProxyAccessLog    string   `json:"proxy_access_log" doc:"File, /dev/stdout, or off."`
	ProxyErrorLog     string   `json:"proxy_error_log"`
	AdminAccessLog    string   `json:"admin_access_log"`
	AdminErrorLog     string   `json:"admin_error_log"`
	StatusAccessLog   string   `json:"status_access_log"`
	StatusErrorLog    string   `json:"status_error_log"`
	ErrorDefaultType  string   `json:"error_default_type" enum:"text/plain,text/html,application/json,application/xml"`
	ErrorTemplateHTML string   `json:"error_template_html" doc:"File; two %s stand for message and request ID."`
	ErrorTemplateJSON string   `json:"error_template_json"`
	ErrorTemplateXML  string   `json:"error_template_xml"`
	ErrorTemplateText string   `json:"error_template_plain"`
	AllowDebugHeader  bool     `json:"allow_debug_header" doc:"Answer Kong-Debug: 1 with route and service headers."`

	SSLCert                  []string `json:"ssl_cert" doc:"Files with the default certificate chain."`
	SSLCertKey               []string `json:"ssl_cert_key"`
	SSLCipherSuite           string   `json:"ssl_cipher_suite" enum:"modern,intermediate,old,fips,custom"`
	SSLCiphers               string   `json:"ssl_ciphers"`
	SSLProtocols             []string `json:"ssl_protocols" enum:"TLSv1,TLSv1.1,TLSv1.2,TLSv1.3"`
	SSLPreferServerCiphers   bool     `json:"ssl_prefer_server_ciphers"`
	SSLSessionTickets        bool     `json:"ssl_session_tickets"`
	SSLSessionTimeout        string   `json:"ssl_session_timeout" doc:"Like 1d or 10m."`
	SSLSessionCacheSize      Size     `json:"ssl_session_cache_size"`
	ClientSSL                bool     `json:"client_ssl" doc:"Present client_ssl_cert to services."`
	ClientSSLCert            string   `json:"client_ssl_cert"`
	ClientSSLCertKey         string   `json:"client_ssl_cert_key"`
	AdminSSLCert             []string `json:"admin_ssl_cert"`
	AdminSSLCertKey          []string `json:"admin_ssl_cert_key"`
	StatusSSLCert            []string `json:"status_ssl_cert"`
	StatusSSLCertKey         []string `json:"status_ssl_cert_key"`
	TLSCertificateVerify     bool     `json:"tls_certificate_verify"`
	LuaSSLTrustedCertificate []string `json:"lua_ssl_trusted_certificate" doc:"Files or system: who may sign certificates of services."`
	LuaSSLVerifyDepth        int      `json:"lua_ssl_verify_depth" min:"0" max:"64"`

	Database                string `json:"database" enum:"off,postgres"`
	DeclarativeConfig       string `json:"declarative_config"`
	DeclarativeConfigString string `json:"declarative_config_string"`
	PgHost                  string `json:"pg_host"`
	PgPort                  int    `json:"pg_port" min:"0" max:"65535"`
	PgTimeout               int    `json:"pg_timeout" min:"0" max:"2147483647" doc:"Milliseconds."` // milliseconds
	PgUser                  string `json:"pg_user"`
	PgPassword              string `json:"pg_password" secret:"true"`
	PgDatabase              string `json:"pg_database"`
	PgSchema                string `json:"pg_schema"`
	PgSSL                   bool   `json:"pg_ssl"`
	PgSSLVersion            string `json:"pg_ssl_version"`
	PgSSLRequired           bool   `json:"pg_ssl_required"`
	PgSSLVerify             bool   `json:"pg_ssl_verify"`
	PgMaxConcurrentQueries  int    `json:"pg_max_concurrent_queries" min:"0" max:"2147483647"`
	PgKeepaliveTimeout      *int   `json:"pg_keepalive_timeout" min:"0" max:"2147483647" doc:"Milliseconds."` // milliseconds
	PgPoolSize              *int   `json:"pg_pool_size" min:"0" max:"2147483647"`
	PgBacklog               *int   `json:"pg_backlog" min:"0" max:"2147483647"`
	DBUpdateFrequency       int    `json:"db_update_frequency" min:"0" max:"2147483647" doc:"Seconds."`   // seconds
	DBUpdatePropagation     int    `json:"db_update_propagation" min:"0" max:"2147483647" doc:"Seconds."` // seconds
	DBCacheTTL              int    `json:"db_cache_ttl" min:"0" max:"2147483647" doc:"Seconds."`          // seconds

	RouterFlavor            string   `json:"router_flavor" enum:"traditional,traditional_compatible,expressions"`
	MemCacheSize            Size     `json:"mem_cache_size" doc:"Bytes of the response caches that do not say otherwise."`
	WorkerConsistency       string   `json:"worker_consistency" enum:"strict,eventual"`
	WorkerStateUpdateFreq   float64  `json:"worker_state_update_frequency" min:"0" doc:"Seconds."` // seconds
	NginxWorkerProcesses    string   `json:"nginx_worker_processes" doc:"auto, or how many CPUs may run the gateway."`
	TracingInstrumentations []string `json:"tracing_instrumentations" enum:"off,all,request,db_query,dns_query,router,http_client,balancer,plugin_rewrite,plugin_access,plugin_header_filter"`
	TracingSamplingRate     float64  `json:"tracing_sampling_rate" min:"0" max:"1"`
	Plugins                 []string `json:"plugins" doc:"Names of plugins that may be used; bundled stands for all."`
	AnonymousReports        bool     `json:"anonymous_reports" doc:"Accepted; nothing is ever reported."`

	Redis map[string]Redis `json:"redis" doc:"Named connections a plugin may refer to. Not in Kong."`
}

// NewGateway returns a Gateway with the defaults of kong.conf, except where a comment or
// the documentation of the property says otherwise. ProxyListen stays nil: its default
// depends on whether the document has a certificate, so Read fills it in.
func NewGateway() Gateway {
	return Gateway{
		AdminListen:  Listeners{{Host: "127.0.0.1", Port: 8001}},
		StatusListen: Listeners{{Host: "127.0.0.1", Port: 8007}},
		RealIPHeader: "X-Real-IP", ClientBodyBufferSize: 8 << 10,
		UpstreamKeepalivePoolSize: 512, UpstreamKeepaliveMaxRequests: 10000, UpstreamKeepaliveIdleTimeout: 60,
		DNSHostsfile: "/etc/hosts", DNSOrder: []string{"LAST", "SRV", "A", "CNAME"},
		DNSStaleTTL: 3600, DNSNotFoundTTL: 30, DNSErrorTTL: 1, DNSCacheSize: 10000, DNSTimeout: 2000,
		ResolverTimeout: 30,
		// Kong also lists latency_tokens here; the gateway sends those only when asked to.
		Headers: []string{"server_tokens", "X-Kong-Request-Id"}, HeadersUpstream: []string{"X-Kong-Request-Id"},
		LogLevel: "notice", ProxyAccessLog: "off", ProxyErrorLog: "/dev/stderr",
		AdminAccessLog: "off", AdminErrorLog: "/dev/stderr",
		StatusAccessLog: "off", StatusErrorLog: "/dev/stderr",
		ErrorDefaultType: "text/plain",
		SSLCipherSuite:   "intermediate", SSLProtocols: []string{"TLSv1.2", "TLSv1.3"},
		SSLPreferServerCiphers: true, SSLSessionTickets: true, SSLSessionTimeout: "1d", SSLSessionCacheSize: 10 << 20,
		LuaSSLTrustedCertificate: []string{"system"}, LuaSSLVerifyDepth: 1,
		Database: "off", PgHost: "127.0.0.1", PgPort: 5432, PgTimeout: 5000, PgUser: "kong", PgDatabase: "kong",
		PgSSLVersion: "tlsv1_2", DBUpdateFrequency: 5,
		RouterFlavor: "traditional", MemCacheSize: 128 << 20,
		WorkerConsistency: "eventual", WorkerStateUpdateFreq: 5, NginxWorkerProcesses: "auto",
		TracingInstrumentations: []string{"all"}, TracingSamplingRate: 0.01,
		Plugins: []string{"bundled"},
	}
}

// Redis is one named connection. Times are in milliseconds.
type Redis struct {
	Host                   string      `json:"host"`
	Port                   int         `json:"port" min:"0" max:"65535"`
	Username               string      `json:"username"`
	Password               string      `json:"password" secret:"true"`
	Database               int         `json:"database" min:"0" max:"2147483647"`
	ConnectTimeout         int         `json:"connect_timeout" min:"0" max:"2147483646"` // milliseconds
	SendTimeout            int         `json:"send_timeout" min:"0" max:"2147483646"`    // milliseconds
	ReadTimeout            int         `json:"read_timeout" min:"0" max:"2147483646"`    // milliseconds
	KeepalivePoolSize      int         `json:"keepalive_pool_size" min:"1" max:"2147483646"`
	SSL                    bool        `json:"ssl"`
	SSLVerify              bool        `json:"ssl_verify"`
	ServerName             string      `json:"server_name"`
	SentinelMaster         string      `json:"sentinel_master"`
	SentinelRole           string      `json:"sentinel_role" enum:"master,slave,any"`
	SentinelUsername       string      `json:"sentinel_username"`
	SentinelPassword       string      `json:"sentinel_password" secret:"true"`
	SentinelNodes          []RedisNode `json:"sentinel_nodes"`
	ClusterNodes           []RedisNode `json:"cluster_nodes"`
	ClusterMaxRedirections int         `json:"cluster_max_redirections" min:"0" max:"2147483647"`
}

// RedisNode is one member of a Redis Cluster or one Sentinel.
type RedisNode struct {
	Host string `json:"host" alias:"ip" required:"true"`
	Port int    `json:"port" min:"0" max:"65535"`
}

// SetDefaults gives the defaults of Kong's redis blocks.
func (r *Redis) SetDefaults() {
	*r = Redis{
		Port: 6379, ConnectTimeout: 2000, SendTimeout: 2000, ReadTimeout: 2000,
		KeepalivePoolSize: 256, ClusterMaxRedirections: 5,
	}
}

// SetDefaults gives Redis's usual port.
func (n *RedisNode) SetDefaults() { n.Port = 6379 }

// Check says what the tags cannot: which address fields belong together.
func (r *Redis) Check(rep *Reporter) {
	if r.Host == "" && len(r.SentinelNodes) == 0 && len(r.ClusterNodes) == 0 {
		rep.Faultf("host", "at least one of these fields must be non-empty: 'host', 'sentinel_nodes', 'cluster_nodes'")
	}
	if len(r.SentinelNodes) > 0 && r.SentinelMaster == "" {
		rep.Faultf("sentinel_master", "required field missing")
	}
	if len(r.SentinelNodes) > 0 && len(r.ClusterNodes) > 0 {
		rep.Faultf("cluster_nodes", "sentinel_nodes and cluster_nodes exclude each other")
	}
}

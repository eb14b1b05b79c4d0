package config

// Document is what the operator wrote: every file merged, every nested entity lifted to
// its own list, every reference resolved to an ID, every default filled in. Read
// produces it; nothing in it changes afterwards, so it may be shared between goroutines.
// The zero value is an empty, valid document.
type Document struct {
	FormatVersion string   // as written: "1.1", "2.1" or "3.0"; the entities always follow "3.0"
	Transform     bool     // what `_transform` said; secrets in the document are transformed either way
	Comment       string   // `_comment`
	Workspace     string   // `_workspace`, kept for Admin API answers only
	SelectTags    []string // `_info.select_tags`, already added to every entity

	Services             []*Service
	Routes               []*Route
	Upstreams            []*Upstream
	Targets              []*Target
	Consumers            []*Consumer
	ConsumerGroups       []*ConsumerGroup
	ConsumerGroupMembers []*ConsumerGroupMember
	Plugins              []*Plugin

	KeyAuthCredentials   []*KeyAuthCredential
	BasicAuthCredentials []*BasicAuthCredential
	HMACAuthCredentials  []*HMACAuthCredential
	JWTSecrets           []*JWTSecret
	OAuth2Credentials    []*OAuth2Credential
	OAuth2Tokens         []*OAuth2Token
	ACLs                 []*ACL
	MTLSAuthCredentials  []*MTLSAuthCredential

	Certificates   []*Certificate
	SNIs           []*SNI
	CACertificates []*CACertificate
	Vaults         []*Vault
	Keys           []*Key
	KeySets        []*KeySet
	GraphQLSchemas []*GraphQLSchema

	Gateway Gateway

	// Hash identifies the text the document was read from: 32 hex digits, 32 zeros for a
	// document without sources (Kong: configuration_hash in /status).
	Hash     string
	Warnings Faults
}

// Pos is where an entity was written. Line and Col count from 1; 0 means unknown.
type Pos struct {
	File string
	Line int
	Col  int
}

// Meta is what every entity carries beside its ID.
type Meta struct {
	Tags      []string `json:"tags" doc:"Labels for filtering; no comma or slash inside."`
	CreatedAt int64    `json:"created_at" fraction:"true" doc:"Unix seconds. Older routes win ties."`
	UpdatedAt int64    `json:"updated_at" fraction:"true" doc:"Unix seconds."`
	Pos       Pos      `json:"-"`
}

// Service is an API behind the gateway. NewService gives Kong's defaults.
type Service struct {
	ID                string         `json:"id"`
	Name              string         `json:"name" doc:"Unique name."`
	Protocol          string         `json:"protocol" enum:"http,https,grpc,grpcs,tcp,tls,tls_passthrough,udp,ws,wss" doc:"How the service is spoken to; ws and wss are http and https for WebSocket."`
	Host              string         `json:"host" doc:"Host name, IP address, or the name of an upstream, in which case port is ignored."`
	Port              int            `json:"port" min:"0" max:"65535"`
	Path              string         `json:"path" doc:"Prefix of every request path; starts with a slash."`
	Retries           int            `json:"retries" min:"0" max:"32767" doc:"Further attempts after the first one failed in transport."`
	ConnectTimeout    int            `json:"connect_timeout" min:"1" max:"2147483646" doc:"Milliseconds to connect."`                   // milliseconds
	WriteTimeout      int            `json:"write_timeout" min:"1" max:"2147483646" doc:"Milliseconds between two successive sends."`   // milliseconds
	ReadTimeout       int            `json:"read_timeout" min:"1" max:"2147483646" doc:"Milliseconds between two successive receipts."` // milliseconds
	Enabled           bool           `json:"enabled" doc:"False takes all routes of the service out of the router."`
	ClientCertificate string         `json:"client_certificate" ref:"certificates" doc:"Certificate presented to the service."`
	TLSVerify         *bool          `json:"tls_verify" doc:"Verify the certificate of the service; null follows the gateway's setting."`
	TLSVerifyDepth    *int           `json:"tls_verify_depth" min:"0" max:"64"`
	CACertificates    []string       `json:"ca_certificates" doc:"IDs of the CA certificates that may sign the certificate of the service."`
	CircuitBreaker    CircuitBreaker `json:"circuit_breaker" doc:"Answers at once while the service as a whole fails. Not in Kong."`
	Limits            ServiceLimits  `json:"limits" doc:"What may be under way to the service at a time. Not in Kong."`
	Builtin           bool           `json:"-"` // answered by the gateway itself; made when a route names it undeclared
	Meta
}

// NewService returns a Service with Kong's defaults.
func NewService() *Service {
	return &Service{
		Protocol: "http", Port: 80, Retries: 5, Enabled: true,
		ConnectTimeout: 60000, WriteTimeout: 60000, ReadTimeout: 60000,
		CircuitBreaker: newCircuitBreaker(), Limits: ServiceLimits{QueueTimeout: queueTimeoutDefault},
	}
}

// Route is a rule that leads requests to a Service. NewRoute gives Kong's defaults.
type Route struct {
	ID                      string              `json:"id"`
	Name                    string              `json:"name" doc:"Unique name."`
	Service                 string              `json:"service" ref:"services" doc:"Service the route leads to; null needs a plugin that answers."` // ID
	Protocols               []string            `json:"protocols" len:"1" enum:"http,https,grpc,grpcs,tcp,tls,tls_passthrough,udp,ws,wss" doc:"What the route takes; http and https carry WebSocket too, ws and wss take only its handshakes."`
	Methods                 []string            `json:"methods" doc:"Upper-case HTTP methods."`
	Hosts                   []string            `json:"hosts" doc:"Host names; one asterisk as the whole first or last label."`
	Paths                   []string            `json:"paths" doc:"Prefixes (/x) or regular expressions (~/x)."`
	Headers                 map[string][]string `json:"headers" doc:"Header name to accepted values; a value ~*x is a regular expression."`
	SNIs                    []string            `json:"snis"`
	Sources                 []Endpoint          `json:"sources"`
	Destinations            []Endpoint          `json:"destinations"`
	RegexPriority           int                 `json:"regex_priority" doc:"Among regular expressions, higher is tried first."`
	StripPath               bool                `json:"strip_path" doc:"Remove the matched prefix before proxying."`
	PreserveHost            bool                `json:"preserve_host" doc:"Send the Host header of the client to the service."`
	PathHandling            string              `json:"path_handling" enum:"v0,v1"`
	HTTPSRedirectStatusCode int                 `json:"https_redirect_status_code" enum:"426,301,302,307,308"`
	RequestBuffering        bool                `json:"request_buffering"`
	ResponseBuffering       bool                `json:"response_buffering"`
	Expression              string              `json:"expression" doc:"Only with router_flavor: expressions."`
	Priority                uint64              `json:"priority" min:"0" max:"70368744177663" doc:"Rank of an expression; higher is tried first."`
	Meta
}

// NewRoute returns a Route with Kong's defaults.
func NewRoute() *Route {
	return &Route{
		Protocols: []string{"http", "https"}, StripPath: true, PathHandling: "v0",
		HTTPSRedirectStatusCode: 426, RequestBuffering: true, ResponseBuffering: true,
	}
}

// Endpoint is one source or destination of a stream route: a network, a port, or both.
type Endpoint struct {
	IP   string `json:"ip" doc:"Address or CIDR."`
	Port int    `json:"port" min:"0" max:"65535"`
}

// Upstream is a group of targets that requests are balanced over. NewUpstream gives
// Kong's defaults.
type Upstream struct {
	ID                     string         `json:"id"`
	Name                   string         `json:"name" required:"true" doc:"Unique; a service whose host equals it is balanced."`
	Algorithm              string         `json:"algorithm" enum:"round-robin,consistent-hashing,least-connections,latency"`
	Slots                  int            `json:"slots" min:"10" max:"65536" doc:"Points of the consistent-hashing ring; not a limit on connections."`
	HashOn                 string         `json:"hash_on" enum:"none,consumer,ip,header,cookie,path,query_arg,uri_capture"`
	HashFallback           string         `json:"hash_fallback" enum:"none,consumer,ip,header,cookie,path,query_arg,uri_capture"`
	HashOnHeader           string         `json:"hash_on_header"`
	HashFallbackHeader     string         `json:"hash_fallback_header"`
	HashOnCookie           string         `json:"hash_on_cookie"`
	HashOnCookiePath       string         `json:"hash_on_cookie_path"`
	HashOnQueryArg         string         `json:"hash_on_query_arg" len:"1"`
	HashFallbackQueryArg   string         `json:"hash_fallback_query_arg" len:"1"`
	HashOnURICapture       string         `json:"hash_on_uri_capture" len:"1"`
	HashFallbackURICapture string         `json:"hash_fallback_uri_capture" len:"1"`
	HostHeader             string         `json:"host_header" doc:"Host sent to every target."`
	ClientCertificate      string         `json:"client_certificate" ref:"certificates"`
	UseSRVName             bool           `json:"use_srv_name"`
	MaxConnections         int            `json:"max_connections" min:"0" max:"2147483647" doc:"Connections to one target at a time, 0 for no limit. Not in Kong."`
	Healthchecks           Healthchecks   `json:"healthchecks"`
	HashRing               string         `json:"hash_ring" enum:"ketama,nginx" doc:"How the points of the ring are made: nginx places keys as nginx's own hash ... consistent does. Not in Kong."`
	HashBalanceFactor      int            `json:"hash_balance_factor" min:"0" max:"10000" doc:"Percentage of the average load above which a target passes requests on along the ring, 0 for no bound, else above 100. Not in Kong."`
	Failover               string         `json:"failover" ref:"upstreams" doc:"Upstream that takes over while this one has no healthy target. Not in Kong."` // ID
	CircuitBreaker         CircuitBreaker `json:"circuit_breaker" doc:"Keeps a failing target out of the rotation. Not in Kong."`
	Limits                 UpstreamLimits `json:"limits" doc:"What may be under way at a time. Not in Kong."`
	Meta
}

// NewUpstream returns an Upstream with Kong's defaults.
func NewUpstream() *Upstream {
	u := &Upstream{
		Algorithm: "round-robin", Slots: 10000, HashOn: "none", HashFallback: "none",
		HashOnCookiePath: "/", HashRing: "ketama",
		CircuitBreaker: newCircuitBreaker(), Limits: UpstreamLimits{QueueTimeout: queueTimeoutDefault},
	}
	u.Healthchecks.Active = ActiveHealthcheck{
		Type: "http", Timeout: 1, Concurrency: 10, HTTPPath: "/", HTTPSVerifyCertificate: true,
		Healthy:   HealthyProbe{HTTPStatuses: []int{200, 302}},
		Unhealthy: UnhealthyProbe{HTTPStatuses: []int{429, 404, 500, 501, 502, 503, 504, 505}},
	}
	u.Healthchecks.Passive = PassiveHealthcheck{
		Type: "http", OpenDuration: 30,
		Healthy: HealthyTraffic{HTTPStatuses: []int{
			200, 201, 202, 203, 204, 205, 206, 207, 208, 226,
			300, 301, 302, 303, 304, 305, 306, 307, 308,
		}},
		Unhealthy: UnhealthyTraffic{HTTPStatuses: []int{429, 500, 503}},
	}
	return u
}

// Healthchecks says how the health of an upstream's targets is found out.
type Healthchecks struct {
	Active    ActiveHealthcheck  `json:"active"`
	Passive   PassiveHealthcheck `json:"passive"`
	Threshold float64            `json:"threshold" min:"0" max:"100" doc:"Percentage of available weight at or below which the upstream is unhealthy."`
}

// ActiveHealthcheck probes targets on its own. Times are in seconds.
type ActiveHealthcheck struct {
	Type                   string              `json:"type" enum:"http,https,tcp,grpc,grpcs" doc:"grpc and grpcs targets are checked by connecting only."`
	Timeout                float64             `json:"timeout" min:"0" max:"65535" doc:"Seconds."` // seconds
	Concurrency            int                 `json:"concurrency" min:"1" max:"2147483648"`
	HTTPPath               string              `json:"http_path"`
	HTTPSSNI               string              `json:"https_sni"`
	HTTPSVerifyCertificate bool                `json:"https_verify_certificate"`
	Headers                map[string][]string `json:"headers"`
	Healthy                HealthyProbe        `json:"healthy"`
	Unhealthy              UnhealthyProbe      `json:"unhealthy"`
}

// HealthyProbe is when a probe counts as a success.
type HealthyProbe struct {
	Interval     float64 `json:"interval" min:"0" max:"65535" doc:"Seconds between probes of healthy targets, 0 for none."` // seconds
	HTTPStatuses []int   `json:"http_statuses" min:"100" max:"999"`
	Successes    int     `json:"successes" min:"0" max:"255" doc:"Successes in a row that make a target healthy, 0 for never."`
}

// UnhealthyProbe is when a probe counts as a failure.
type UnhealthyProbe struct {
	Interval     float64 `json:"interval" min:"0" max:"65535" doc:"Seconds between probes of unhealthy targets, 0 for none."` // seconds
	HTTPStatuses []int   `json:"http_statuses" min:"100" max:"999"`
	HTTPFailures int     `json:"http_failures" min:"0" max:"255"`
	TCPFailures  int     `json:"tcp_failures" min:"0" max:"255"`
	Timeouts     int     `json:"timeouts" min:"0" max:"255"`
}

// PassiveHealthcheck learns from the traffic itself.
type PassiveHealthcheck struct {
	Type         string           `json:"type" enum:"http,https,tcp,grpc,grpcs"`
	OpenDuration float64          `json:"open_duration" min:"0" max:"65535" doc:"Seconds an address stays shut before one trial request, doubling to 300; 0 for never. Only without active probes. Not in Kong."` // seconds
	Healthy      HealthyTraffic   `json:"healthy"`
	Unhealthy    UnhealthyTraffic `json:"unhealthy"`
}

// HealthyTraffic is when proxied traffic counts as a success.
type HealthyTraffic struct {
	HTTPStatuses []int `json:"http_statuses" min:"100" max:"999"`
	Successes    int   `json:"successes" min:"0" max:"255"`
}

// UnhealthyTraffic is when proxied traffic counts as a failure.
type UnhealthyTraffic struct {
	HTTPStatuses []int `json:"http_statuses" min:"100" max:"999"`
	HTTPFailures int   `json:"http_failures" min:"0" max:"255"`
	TCPFailures  int   `json:"tcp_failures" min:"0" max:"255"`
	Timeouts     int   `json:"timeouts" min:"0" max:"255"`
}

// CircuitBreaker opens when what it guards fails, a service or one target of an
// upstream, and lets trial requests through after a while. Off unless
// consecutive_failures or error_rate says when to open. Not in Kong.
type CircuitBreaker struct {
	ConsecutiveFailures int     `json:"consecutive_failures" min:"0" max:"65535" doc:"Failures in a row that open it, 0 for never."`
	ErrorRate           float64 `json:"error_rate" min:"0" max:"100" doc:"Percentage of failures within window that opens it, 0 for never."`
	Window              float64 `json:"window" min:"0.1" max:"3600" doc:"Seconds that error_rate looks back."` // seconds
	MinRequests         int     `json:"min_requests" min:"1" max:"1000000" doc:"Requests within window below which error_rate is not looked at."`
	Statuses            []int   `json:"statuses" min:"100" max:"999" doc:"Statuses that are failures, beside faults of transport."`
	OpenDuration        float64 `json:"open_duration" min:"0.05" max:"65535" doc:"Seconds it stays open, doubling with every failed trial."` // seconds
	MaxOpenDuration     float64 `json:"max_open_duration" min:"0.05" max:"65535" doc:"Seconds that doubling stops at."`                      // seconds
	HalfOpenRequests    int     `json:"half_open_requests" min:"1" max:"10000" doc:"Trial requests at a time while half-open."`
	Successes           int     `json:"successes" min:"1" max:"10000" doc:"Trials in a row that must succeed to close it."`
	StatusCode          int     `json:"status_code" min:"200" max:"599" doc:"Status answered while it is open. Services only."`
	Message             string  `json:"message" doc:"Message answered while it is open. Services only."`
	ContentType         string  `json:"content_type" doc:"Type of body. Services only."`
	Body                string  `json:"body" doc:"Raw answer in place of message. Services only."`
}

// Enabled reports whether anything may open the breaker.
func (b *CircuitBreaker) Enabled() bool { return b.ConsecutiveFailures > 0 || b.ErrorRate > 0 }

// newCircuitBreaker returns the defaults.
func newCircuitBreaker() CircuitBreaker {
	return CircuitBreaker{
		Window: 10, MinRequests: 20, Statuses: []int{500, 502, 503, 504},
		OpenDuration: 30, MaxOpenDuration: 300, HalfOpenRequests: 1, Successes: 1, StatusCode: 503,
	}
}

// ServiceLimits bound what is under way to a service. A request above a limit waits in
// a queue; one that finds the queue full, or waits too long, is answered 503 with
// Retry-After. 0 is no limit. Not in Kong.
type ServiceLimits struct {
	Requests     int `json:"requests" min:"0" max:"2147483647" doc:"Requests under way, tunnels and streams among them."`
	Queue        int `json:"queue" min:"0" max:"1000000" doc:"Requests that may wait for their turn."`
	QueueTimeout int `json:"queue_timeout" min:"1" max:"2147483646" doc:"Milliseconds one may wait."` // milliseconds
}

// UpstreamLimits are ServiceLimits of an upstream, and of each of its targets.
type UpstreamLimits struct {
	Requests          int `json:"requests" min:"0" max:"2147483647" doc:"Requests under way to all targets."`
	Connections       int `json:"connections" min:"0" max:"2147483647" doc:"Connections to all targets, idle ones among them."`
	TargetRequests    int `json:"target_requests" min:"0" max:"2147483647" doc:"Requests under way to one target."`
	TargetConnections int `json:"target_connections" min:"0" max:"2147483647" doc:"Connections to one target, idle ones among them; max_connections is the same."`
	Queue             int `json:"queue" min:"0" max:"1000000" doc:"Requests that may wait for their turn."`
	QueueTimeout      int `json:"queue_timeout" min:"1" max:"2147483646" doc:"Milliseconds one may wait."` // milliseconds
}

// queueTimeoutDefault is in milliseconds.
const queueTimeoutDefault = 1000

// Target is one address of an Upstream.
type Target struct {
	ID       string `json:"id"`
	Upstream string `json:"upstream" ref:"upstreams" required:"true"`                                     // ID
	Target   string `json:"target" required:"true" doc:"host[:port]; after reading the port is present."` // host:port
	Weight   int    `json:"weight" min:"0" max:"65535" doc:"Share of traffic; 0 keeps the target out."`
	Meta
}

// Consumer is who calls.
type Consumer struct {
	ID       string `json:"id"`
	Username string `json:"username" doc:"Unique. One of username and custom_id is needed."`
	CustomID string `json:"custom_id" doc:"Unique key in a system of the operator's."`
	Meta
}

// ConsumerGroup is a set of consumers that plugins may be scoped to.
type ConsumerGroup struct {
	ID   string `json:"id"`
	Name string `json:"name" required:"true"`
	Meta
}

// ConsumerGroupMember puts one consumer into one group.
type ConsumerGroupMember struct {
	ID            string `json:"id"`
	Consumer      string `json:"consumer" ref:"consumers" required:"true"`             // ID
	ConsumerGroup string `json:"consumer_group" ref:"consumer_groups" required:"true"` // ID
	Meta
}

// Plugin is one configured instance of a plugin at one scope. Scope fields hold IDs; all
// empty means global.
type Plugin struct {
	ID            string   `json:"id"`
	Name          string   `json:"name" required:"true"`
	InstanceName  string   `json:"instance_name"`
	Service       string   `json:"service" ref:"services"`
	Route         string   `json:"route" ref:"routes"`
	Consumer      string   `json:"consumer" ref:"consumers"`
	ConsumerGroup string   `json:"consumer_group" ref:"consumer_groups"`
	Enabled       bool     `json:"enabled" doc:"A disabled instance is invisible."`
	Protocols     []string `json:"protocols" enum:"http,https,grpc,grpcs,tcp,tls,tls_passthrough,udp,ws,wss"`
	Config        *Node    `json:"config" doc:"Settings of the plugin."` // nil when none were written
	Ordering      *Node    `json:"ordering" doc:"Plugins to run before or after."`
	Meta
}

// NewPlugin returns a Plugin with Kong's defaults.
func NewPlugin() *Plugin {
	return &Plugin{Enabled: true, Protocols: []string{"grpc", "grpcs", "http", "https"}}
}

// GraphQLSchema maps the fields of a GraphQL schema to URLs. Not in Kong.
type GraphQLSchema struct {
	ID        string                       `json:"id"`
	Name      string                       `json:"name" required:"true"`
	Schema    string                       `json:"schema" required:"true" doc:"Schema definition language."`
	Resolvers map[string]map[string]string `json:"resolvers" doc:"Type, then field, to URL; {arg} is replaced."`
	Meta
}

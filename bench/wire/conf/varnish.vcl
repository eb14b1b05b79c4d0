# Varnish as a cache in front of the service. Everything not named here is Varnish's default.
vcl 4.1;

backend service {
    .host = "127.0.0.1";
    .port = "{{index .ServicePorts 0}}";
}

sub vcl_backend_response {
    set beresp.ttl = 10m;
}

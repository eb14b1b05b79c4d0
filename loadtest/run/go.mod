module github.com/sluice-gateway/sluice/loadtest/run

go 1.26.0

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0
	github.com/sluice-gateway/sluice v0.0.0-00010101000000-000000000000
	go.yaml.in/yaml/v3 v3.0.6
	golang.org/x/sys v0.49.0
)

replace github.com/sluice-gateway/sluice => ../..

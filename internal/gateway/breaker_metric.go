package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/inference"
)

// breakers shows the state of every endpoint's breaker when metrics are read.
type breakers struct{ g *Gateway }

var breakerDesc = prometheus.NewDesc("maas_gateway_breaker_state", "State of an endpoint's breaker in this process: 0 closed, 1 half open, 2 open.", []string{"deployment", "replica"}, nil)

// Describe implements prometheus.Collector.
func (breakers) Describe(c chan<- *prometheus.Desc) { c <- breakerDesc }

// Collect implements prometheus.Collector.
func (b breakers) Collect(c chan<- prometheus.Metric) {
	if b.g.Router == nil {
		return
	}
	for _, s := range b.g.Router.Upstreams("") {
		v := 0.0
		switch s.Breaker {
		case inference.BreakerHalfOpen:
			v = 1
		case inference.BreakerOpen:
			v = 2
		case inference.BreakerClosed:
		}
		c <- prometheus.MustNewConstMetric(breakerDesc, prometheus.GaugeValue, v, s.DeploymentID, s.Endpoint)
	}
}

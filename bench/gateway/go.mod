module gatewaybench

go 1.26

# A network for the cluster: no machine has an address of its own, all reach Google's services.
resource "google_compute_network" "this" {
  count = var.cluster ? 1 : 0

  project                 = var.project
  name                    = "bertline"
  auto_create_subnetworks = false

  depends_on = [google_project_service.this]
}

resource "google_compute_subnetwork" "this" {
  count = var.cluster ? 1 : 0

  project                  = var.project
  region                   = var.region
  name                     = "bertline"
  network                  = google_compute_network.this[0].id
  ip_cidr_range            = "10.10.0.0/20"
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = "10.20.0.0/16"
  }

  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = "10.30.0.0/20"
  }

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# Said aloud, and counted: nobody reaches a node but by the rules that GKE adds, which come before this one.
resource "google_compute_firewall" "closed" {
  count = var.cluster ? 1 : 0

  project       = var.project
  name          = "bertline-closed"
  network       = google_compute_network.this[0].id
  direction     = "INGRESS"
  priority      = 65000
  source_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "EXCLUDE_ALL_METADATA"
  }
}

# Kubeflow's images lie outside Google's registries.
resource "google_compute_router" "this" {
  count = var.cluster ? 1 : 0

  project = var.project
  region  = var.region
  name    = "bertline"
  network = google_compute_network.this[0].id
}

resource "google_compute_router_nat" "this" {
  count = var.cluster ? 1 : 0

  project                            = var.project
  region                             = var.region
  name                               = "bertline"
  router                             = google_compute_router.this[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}

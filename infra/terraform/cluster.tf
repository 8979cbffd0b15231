# A GKE cluster for Kubeflow Pipelines, whose nodes come when they are wanted: pools.tf.
resource "google_container_cluster" "this" {
  #checkov:skip=CKV_GCP_12: ADVANCED_DATAPATH enforces network policies without this setting
  #checkov:skip=CKV_GCP_69: of the default node pool, which is removed at once; the pools in pools.tf have it
  #checkov:skip=CKV_GCP_65: groups of Google Workspace for Kubernetes' roles need a domain, which not everyone has
  #checkov:skip=CKV_GCP_66: Kubeflow's own images are not signed for Binary Authorization
  count = var.cluster ? 1 : 0

  project             = var.project
  name                = "bertline"
  location            = var.region
  node_locations      = [for zone in var.zones : "${var.region}-${zone}"]
  deletion_protection = true
  resource_labels     = { application = "bertline" }

  network           = google_compute_network.this[0].id
  subnetwork        = google_compute_subnetwork.this[0].id
  networking_mode   = "VPC_NATIVE"
  datapath_provider = "ADVANCED_DATAPATH" # it enforces network policies by itself

  enable_shielded_nodes       = true
  enable_intranode_visibility = true
  remove_default_node_pool    = true
  initial_node_count          = 1

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = false
    master_ipv4_cidr_block  = "172.16.0.0/28"
  }

  # Nobody reaches the API but for these, and Google's own services.
  master_authorized_networks_config {
    dynamic "cidr_blocks" {
      for_each = var.administrators
      content {
        cidr_block   = cidr_blocks.key
        display_name = cidr_blocks.value
      }
    }
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  dynamic "database_encryption" {
    for_each = var.kms_key == "" ? [] : [var.kms_key]
    content {
      state    = "ENCRYPTED"
      key_name = database_encryption.value
    }
  }

  release_channel {
    channel = "REGULAR"
  }

  maintenance_policy {
    daily_maintenance_window {
      start_time = "03:00"
    }
  }

  addons_config {
    gcp_filestore_csi_driver_config {
      enabled = true # for the claim bertline-store, where there is no bucket
    }
    gcs_fuse_csi_driver_config {
      enabled = true
    }
  }

  depends_on = [google_project_service.this]
}

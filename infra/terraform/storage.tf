# The bucket of artifacts:
#
#     PREFIX/store/KIND/FINGERPRINT/MANIFEST.json    the commit of an artifact
#     PREFIX/store/KIND/FINGERPRINT/ATTEMPT/...      its files
#     PREFIX/store/refs/, PREFIX/store/runs/         what holds now, and what runs did
#     PREFIX/store/resume/...                        what a killed step goes on from
#     PREFIX/pipeline_root/                          small pointers that Vertex AI hands from step to step
#     PREFIX/tmp/                                    Dataflow's temporary and staged files
#
# A lifecycle rule cannot tell an attempt that was never committed from one that was: both lie beside the manifest, and
# a rule sees names and ages alone. So rules delete only resume/ and tmp/; orphaned attempts are found by `bertline gc`.
locals {
  bucket = var.bucket == "" ? "${var.project}-bertline" : var.bucket
  store  = "${var.prefix}/store"
}

resource "google_storage_bucket" "artifacts" {
  #checkov:skip=CKV_GCP_62: who read what is in Cloud Audit Logs, switched on for a project as a whole
  name                        = local.bucket
  project                     = var.project
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # Against mistakes of people: what someone deletes or overwrites can be had back for undelete_days. The program needs
  # no versions: artifacts are never changed, and a ref's history is a list of numbered files that are created once.
  versioning {
    enabled = true
  }

  # It would keep what the versions keep, a second time.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "encryption" {
    for_each = var.kms_key == "" ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.resume_days
      matches_prefix = ["${local.store}/resume/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 7
      matches_prefix = ["${var.prefix}/tmp/"]
    }
  }

  # A training replaces its snapshots every few minutes: their old versions are gone the next day.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 1
      with_state                 = "ARCHIVED"
      matches_prefix             = ["${local.store}/resume/", "${var.prefix}/tmp/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.undelete_days
      with_state                 = "ARCHIVED"
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.this]
}

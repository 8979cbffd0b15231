# Images, and compiled pipelines as Vertex AI reads them.
resource "google_artifact_registry_repository" "images" {
  project       = var.project
  location      = var.region
  repository_id = "bertline"
  description   = "Images of bertline, one for each target of its Dockerfile"
  format        = "DOCKER"
  kms_key_name  = var.kms_key == "" ? null : var.kms_key

  # A tag names what was tested; a build of the same version again takes a new one.
  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s" # 30 days
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_artifact_registry_repository" "pipelines" {
  project       = var.project
  location      = var.region
  repository_id = "bertline-pipelines"
  description   = "Compiled pipelines, a version for each content"
  format        = "KFP"
  kms_key_name  = var.kms_key == "" ? null : var.kms_key

  depends_on = [google_project_service.this]
}
